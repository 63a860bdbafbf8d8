"""The owner's policy: which rule decides, how the file is read, and what it says when it is wrong."""

from datetime import datetime
from pathlib import Path

import pytest
from Crypto.PublicKey import ECC
from Crypto.Signature import eddsa
from fedbus import Client, Options, Trainer
from fedbus.consent import Allowed, Denied, Package, Policy, PolicyFile, Request, decide, load
from fedbus.consent.policyfile import parse
from fedbus.errors import BadPolicy
from fedbus_schemas import signing

from tests.unit.clientsdk.conftest import World

DIGEST = "ab" * 32
KEY: ECC.EccKey = eddsa.import_private_key(b"\7" * 32)
PUBLIC = signing.encode(KEY.public_key().export_key(format="raw"))


def request(**changes: object) -> Request:
    fields: dict[str, object] = {"kind": "train", "project": "demo", "session": "s-1", "cohort": 5}
    return Request(**(fields | changes))  # type: ignore[arg-type]


def rule(text: str, **changes: object) -> str:
    verdict = decide(parse(text), request(**changes))
    return verdict.rule if isinstance(verdict, Denied) else "allowed"


def signature(digest: str = DIGEST, domain: bytes = signing.PACKAGE) -> str:
    return signing.encode(eddsa.new(KEY, "rfc8032").sign(signing.message(domain, digest)))


SIGNED = Package.remote(DIGEST, [(PUBLIC, signature())])
ONLY_SIGNED = f'[packages]\nremote = "signers"\nsigners = ["{PUBLIC}"]'


@pytest.mark.parametrize(
    ("text", "changes", "expected"),
    [
        ("", {}, "allowed"),
        ("", {"kind": "validate"}, "allowed"),
        ("", {"kind": "inference"}, "tasks.inference"),
        ("", {"kind": "stage_model"}, "tasks.stage_model"),
        ("", {"kind": "restart"}, "tasks.restart"),
        ("", {"kind": "split_learning"}, "tasks.split_learning"),
        ("", {"kind": "custom:ping"}, "tasks.custom"),
        ("", {"kind": "dig"}, "tasks.unknown"),
        ("", {"kind": "custom"}, "tasks.custom"),
        ("[tasks]\ntrain = false", {}, "tasks.train"),
        ("[tasks]\nvalidate = false", {"kind": "validate"}, "tasks.validate"),
        ("[tasks]\ninference = true", {"kind": "inference"}, "allowed"),
        ('[tasks]\ncustom = ["pi*"]', {"kind": "custom:ping"}, "allowed"),
        ('[tasks]\ncustom = ["pi*"]', {"kind": "custom:kill"}, "tasks.custom"),
        ('[sessions]\nprojects = ["other"]', {}, "sessions.projects"),
        ('[sessions]\ndeny = ["s-*"]', {}, "sessions.deny"),
        ('[sessions]\ndeny = ["bad*"]', {"session_name": "bad one"}, "sessions.deny"),
        ('[sessions]\nallow = ["mnist-*"]', {}, "sessions.allow"),
        ('[sessions]\nallow = ["mnist-*"]', {"session_name": "mnist-7"}, "allowed"),
        ('[sessions]\nallow = ["mnist-*"]', {"session": "", "kind": "validate"}, "allowed"),
        ("[cohort]\nsmallest = 5", {}, "allowed"),
        ("[cohort]\nsmallest = 6", {}, "cohort.smallest"),
        ("[cohort]\nsmallest = 6", {"kind": "validate"}, "allowed"),
        ("[cohort]\nsmallest = 2", {"cohort": None}, "cohort.smallest"),
        ("[packages]\nlocal = false", {}, "packages.local"),
        ("", {"local_refused": True}, "server.local_packages"),
        ("", {"package": SIGNED}, "packages.remote"),
        ('[packages]\nremote = "any"', {"package": SIGNED, "local_refused": True}, "allowed"),
        (f'[packages]\nremote = "digests"\ndigests = ["{DIGEST}"]', {"package": SIGNED}, "allowed"),
        (
            f'[packages]\nremote = "digests"\ndigests = ["{"cd" * 32}"]',
            {"package": SIGNED},
            "packages.digests",
        ),
        (ONLY_SIGNED, {"package": SIGNED}, "allowed"),
        (ONLY_SIGNED, {"package": Package.remote(DIGEST)}, "packages.signers"),
        (
            '[packages]\nremote = "signers"\nsigners = ["' + "A" * 43 + '"]',
            {"package": SIGNED},
            "packages.signers",
        ),
        ("[outgoing]\nmib_per_day = 1", {"size": 1024 * 1024}, "allowed"),
        ("[outgoing]\nmib_per_day = 1", {"size": 1024 * 1024 + 1}, "outgoing.mib_per_day"),
        (
            "[outgoing]\nmib_per_day = 1",
            {"size": 1, "sent_bytes": 1024 * 1024},
            "outgoing.mib_per_day",
        ),
        ('[hours]\nwindows = ["22:00-06:00"]', {}, "hours.windows"),
    ],
)
def test_the_first_rule_that_denies_decides(
    text: str, changes: dict[str, object], expected: str
) -> None:
    assert rule(text, **changes) == expected


@pytest.mark.parametrize(
    ("window", "at", "holds"),
    [
        ("mon-fri 19:00-07:00", "2026-11-24T19:00", True),  # a Tuesday
        ("mon-fri 19:00-07:00", "2026-11-24T18:59", False),
        ("mon-fri 19:00-07:00", "2026-11-28T06:59", True),  # the night of Friday
        ("mon-fri 19:00-07:00", "2026-11-28T19:00", False),
        ("mon-fri 19:00-07:00", "2026-11-23T06:00", False),  # the night of Sunday
        ("sat,sun 00:00-24:00", "2026-11-29T23:59", True),
        ("sat,sun 00:00-24:00", "2026-11-30T00:00", False),
        ("fri-mon 12:00-13:00", "2026-11-29T12:30", True),
        ("12:00-13:00", "2026-11-24T13:00", False),
    ],
)
def test_windows_are_local_time(window: str, at: str, holds: bool) -> None:
    policy = Policy.model_validate({"hours": {"windows": [window]}})
    verdict = decide(policy, request(now=datetime.fromisoformat(at)))
    assert isinstance(verdict, Allowed) is holds


def test_a_zone_of_its_own() -> None:
    policy = parse('[hours]\nwindows = ["12:00-13:00"]\ntimezone = "Asia/Tokyo"')
    at = datetime.fromisoformat("2026-11-24T03:30+00:00")
    assert isinstance(decide(policy, request(now=at)), Allowed)


def test_only_signatures_that_hold_count() -> None:
    assert SIGNED.signers == (PUBLIC,)
    for digest, pair in (
        ("cd" * 32, (PUBLIC, signature())),
        (DIGEST, (PUBLIC, signature(domain=signing.MANIFEST))),
        (DIGEST, (PUBLIC, "A" * 86)),
        (DIGEST, ("A" * 43, signature())),
        (DIGEST, ("x", "y")),
        ("../x", (PUBLIC, signature("../x"))),
    ):
        assert Package.remote(digest, [pair]).signers == ()


def test_limits_are_handed_on() -> None:
    verdict = decide(parse("[limits]\ncpu_s = 60\nmemory_mib = 512\nwall_s = 0.5"), request())
    assert isinstance(verdict, Allowed)
    limits = verdict.limits
    assert (limits.cpu_s, limits.memory_mib, limits.wall_s) == (60, 512, 0.5)


def test_keys_that_may_leave() -> None:
    outgoing = parse('[outgoing]\nmetrics = ["loss", "acc*"]\nattributes = []').outgoing
    assert outgoing.may_leave("metrics", "accuracy")
    assert not outgoing.may_leave("metrics", "secret")
    assert not outgoing.may_leave("attributes", "gpu")
    assert outgoing.may_leave("telemetry", "anything")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "\n[tasks]\ntrain = true\ntrian = true",
            "line 4: 'trian' is no key in [tasks]; write 'train'",
        ),
        ("[tasks]\n\nxyz = 1", "line 3: 'xyz' is no key in [tasks]; there are train, validate"),
        ("# one\n[task]\ntrain = true", "line 2: 'task' is no table; write 'tasks'"),
        ("train = true", "line 1: 'train' is no table"),
        ("cohort.smalest = 3", "line 1: 'smalest' is no key in [cohort]; write 'smallest'"),
        (
            '[tasks]\ntrain = "yes"',
            "line 2: tasks.train: Input should be a valid boolean, not 'yes'",
        ),
        ("[cohort]\nsmallest = 0", "line 2: cohort.smallest: Input should be greater"),
        (
            '[hours]\nwindows = ["mon-fri"]',
            "line 2: hours.windows.0: 'mon-fri' is no window; write",
        ),
        ('[hours]\nwindows = ["lun 1:00-2:00"]', "is no window"),
        ('[hours]\nwindows = ["xyz 01:00-02:00"]', "names a day that is none of mon"),
        ('[hours]\nwindows = ["01:00-01:00"]', "begins and ends at one time"),
        ('[hours]\ntimezone = "Mars"', "no time zone 'Mars'"),
        (
            '[packages]\nremote = "signers"',
            'remote = "signers" and a list of signers belong together',
        ),
        ('[packages]\nremote = "some"', "line 2: packages.remote: Input should be 'none'"),
        ('[packages]\ndigests = ["x"]', "line 2: packages.digests.0: String should match"),
        ("[outgoing]\nmib_per_day = nan", "mib_per_day"),
        ("[tasks", "is not TOML"),
    ],
)
def test_a_wrong_file_says_where_and_what_to_write(text: str, said: str) -> None:
    with pytest.raises(BadPolicy) as raised:
        parse(text, "p.toml")
    assert said in str(raised.value)


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_file_that_others_can_write_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "policy.toml", "", 0o664)
    with pytest.raises(BadPolicy, match="chmod go-w"):
        load(path)
    path.chmod(0o644)
    assert load(path) == Policy()
    tmp_path.chmod(0o777)
    with pytest.raises(BadPolicy, match="others can replace"):
        load(path)
    tmp_path.chmod(0o1777)
    assert load(path) == Policy()
    for missing in (tmp_path / "none", tmp_path):
        with pytest.raises(BadPolicy):
            load(missing)
    path.write_bytes(b"\xff")
    with pytest.raises(BadPolicy, match="UTF-8"):
        load(path)
    path.write_text("#" * 300_000)
    with pytest.raises(BadPolicy, match="longer"):
        load(path)


def test_a_changed_file_is_in_force_at_the_next_look(tmp_path: Path) -> None:
    path = write(tmp_path / "policy.toml", "")
    file = PolicyFile(path)
    assert file.current() == (Policy(), False)
    write(path, "[tasks]\ntrain = false")
    policy, changed = file.current()
    assert changed
    assert isinstance(policy, Policy)
    assert not policy.tasks.train
    for spoil in (
        lambda: write(path, "[tsk]"),
        lambda: write(path, "", 0o666),
        path.unlink,
    ):
        spoil()
        denied, _ = file.current()
        assert isinstance(denied, Denied)
        assert denied.rule == "policy.unreadable"
    write(path, "")
    assert file.current() == (Policy(), True)
    assert file.current() == (Policy(), False)


def test_what_functions_log_is_kept_here_unless_its_key_is_listed(
    tmp_path: Path, world: World
) -> None:
    text = '[outgoing]\nmetrics = ["loss"]\nattributes = []\ntelemetry = ["cpu"]\n'
    path = write(tmp_path / "policy.toml", text + "results = []\nevents = false")
    options = Options(credentials=world.credentials, policy=path)
    client = Client(Trainer(lambda model, settings: (model, 1, {})), options)
    client.log_metric({"secret": 1.0})
    client.log_attributes({"site": "eu"})
    client.log_telemetry("disk", 1)
    client.log_inference_result("answer", 1)
    client.log_event("a line")
    assert client.backlog().total == 0
    client.log_metric({"secret": 1.0, "loss": 0.5})
    client.log_telemetry("cpu", 1)
    assert client.backlog().total == 2
