"""What an owner says about packages, on the running stack: one session, and a site for each rule."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from Crypto.PublicKey import ECC
from fedbus.consent.signers import signature
from fedbus.consent.tasklog import NAME, Line, read_lines
from fedbus.packages.archive import create
from fedbus.packages.host import LocalPackage, PackageHost
from fedbus.trainer import Packages
from fedbus_local.stack import LocalStack
from fedbus_schemas.events import RoundCompleted

from tests.stacks import Federation, federation
from tests.trainers import TINY

MANIFEST = "entry_points:\n  train: {command: python train.py}\n"
TRAIN = """
import json, sys, time
given, made = sys.argv[1:]
taken = bytearray(b"1") * (150 * 1024 * 1024)
while time.process_time() < 1.5:
    sum(range(1000))
open(made, "wb").write(open(given, "rb").read())
json.dump({"num_examples": 5}, open(made + "-metadata", "w"))
"""
"""Gives the model back as it is; takes 150 MiB and computes for a second and a half."""
ELSE = "0" * 64


@dataclass(frozen=True)
class Site:
    """A site: which rule declines its task, none = it trains; whether its code is its own."""

    name: str
    policy: str
    rule: str = ""
    own_code: bool = False


def sites(digest: str, signer: str) -> list[Site]:
    other = fedbus_key()
    return [
        Site("any", '[packages]\nremote = "any"'),
        Site("listed", f'[packages]\nremote = "digests"\ndigests = ["{digest}"]'),
        Site("vouched", f'[packages]\nremote = "signers"\nsigners = ["{signer}"]'),
        Site("usual", "", "packages.remote"),
        Site(
            "unlisted", f'[packages]\nremote = "digests"\ndigests = ["{ELSE}"]', "packages.digests"
        ),
        Site(
            "unvouched",
            f'[packages]\nremote = "signers"\nsigners = ["{other}"]',
            "packages.signers",
        ),
        Site("busy", '[packages]\nremote = "any"\n[limits]\ncpu_s = 0.5', "limits.cpu_s"),
        Site("full", '[packages]\nremote = "any"\n[limits]\nmemory_mib = 64', "limits.memory_mib"),
        Site("own", '[packages]\nremote = "any"', "server.local_packages", own_code=True),
        Site("no-own", "[packages]\nlocal = false", "packages.local", own_code=True),
    ]


def fedbus_key() -> str:
    return signature(ECC.generate(curve="Ed25519"), ELSE).key


async def take_part(fed: Federation, folder: Path, package: Path, wanted: list[Site]) -> None:
    """Let all these sites take part."""
    for site in wanted:
        place = folder / site.name
        place.mkdir()
        policy = place / "policy.toml"
        policy.write_text(site.policy)
        policy.chmod(0o600)
        code: Packages = (
            LocalPackage(package, place / "code") if site.own_code else PackageHost(place / "code")
        )
        await fed.add(site.name, code, state_dir=place / "state", policy=policy)
    await fed.online(len(wanted))


def log_of(folder: Path, site: Site) -> list[Line]:
    return [
        one for file in (folder / site.name / "state").glob(f"*/{NAME}") for one in read_lines(file)
    ]


async def test_only_what_each_owner_allows_runs(stack: LocalStack, tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "fedn.yaml").write_text(MANIFEST)
    (package / "train.py").write_text(TRAIN)
    archive = create(package, tmp_path / "package.tgz").path.read_bytes()
    digest = sha256(archive).hexdigest()
    vouched = signature(ECC.generate(curve="Ed25519"), digest)
    wanted = sites(digest, vouched.key)
    async with federation(stack, clients=0) as fed:
        await take_part(fed, tmp_path, package, wanted)
        place = "/v1/packages"
        assert (await fed.ask("POST", place, content=archive))["digest"] == digest
        await fed.ask("POST", f"{place}/{digest}/signatures", json=vouched.model_dump())
        await fed.ask("PUT", f"{place}/active", json={"package": digest})
        session = await fed.start(TINY, rounds=1, minimum=3, local_packages=False)
        await fed.ended(session)
        [view] = await fed.rounds(session)
        declined = {one["detail"] for one in view["refused"] if one["code"] == "declined"}
        assert declined == {f"rule {site.rule}" for site in wanted if site.rule}
        events = await fed.assert_sound(session)
    [completed] = [one for one in events if isinstance(one, RoundCompleted)]
    assert len(completed.counted) == len([site for site in wanted if not site.rule])
    for site in wanted:
        lines = log_of(tmp_path, site)
        told = next(one.get("rule") for one in lines if one["what"] == "asked")
        begun = not site.rule or site.rule.startswith("limits.")
        assert told == (None if begun else site.rule), site.name
        assert next(one["package"] for one in lines if one["what"] == "asked") == (
            "local" if site.own_code else digest
        )
        left = [one for one in lines if one["what"] == "leaves"]
        assert bool(left) == (not site.rule), site.name
        kept = list((tmp_path / site.name / "code").glob("packages/*"))
        assert bool(kept) == (begun and not site.own_code), f"{site.name}: nothing is even fetched"
