"""Secrets: made once, readable by their owner only, and never on a command line."""

import json
import stat
from pathlib import Path

import pytest
from fedbus_local import clients, keys, plan, servers, services
from fedbus_local.errors import LocalError
from fedbus_local.layout import Layout, write_private
from fedbus_runtime import bus_claims
from fedbus_schemas import signing
from fedbus_schemas.credentials import Credentials


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout.at(tmp_path / "stack")
    made.make()
    keys.ensure(made)
    return made


@pytest.fixture
def stack(layout: Layout) -> plan.Plan:
    settled = plan.settle(None, plan.Wishes())
    plan.save(layout, settled)
    return settled


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_everything_is_readable_by_its_owner_only(layout: Layout, stack: plan.Plan) -> None:
    servers.all_of(layout, stack)
    clients.add(layout, stack, ["site-1"], "default", None)
    for path in (layout.root, *layout.root.rglob("*")):
        assert mode(path) == (0o700 if path.is_dir() else 0o600), path


def test_secrets_stay_the_same(layout: Layout) -> None:
    before = {path.name: path.read_text() for path in layout.keys.iterdir()}
    keys.ensure(layout)
    assert {path.name: path.read_text() for path in layout.keys.iterdir()} == before
    seeds = {name: text for name, text in before.items() if name.endswith(".nk")}
    assert len(set(before.values())) == len(before)
    assert len(seeds) == 12  # the operator, three accounts, four scopes, four users


def test_no_secret_is_on_a_command_line_or_in_an_environment(
    layout: Layout, stack: plan.Plan
) -> None:
    secrets = [
        path.read_text().strip() for path in layout.keys.iterdir() if path.name != "s3.access"
    ]
    for program in (*servers.all_of(layout, stack), *services.all_of(layout, stack)):
        shown = [*program.command, *program.environment.values()]
        assert not any(secret in text for text in shown for secret in secrets), program.name


def test_services_get_only_their_own_settings(
    layout: Layout, stack: plan.Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDBUS_DIR", "elsewhere")
    monkeypatch.setenv("FEDBUS_LOG__LEVEL", "debug")
    by_name = {each.name: each.environ() for each in services.all_of(layout, stack)}
    assert list(by_name) == ["controller-1", "controller-2", "combiner-1", "combiner-2", "api"]
    assert "FEDBUS_SIGNING__SEED_FILE" in by_name["controller-1"]
    assert "FEDBUS_SIGNING__SEED_FILE" not in by_name["combiner-1"]
    assert by_name["api"]["FEDBUS_API__PORT"] == str(stack.ports["api"])
    for name, environment in by_name.items():
        assert environment["FEDBUS_INSTANCE"] == name
        assert environment["FEDBUS_LOG__LEVEL"] == "debug"
        assert environment["OPENBLAS_NUM_THREADS"] == "1"
        assert "FEDBUS_DIR" not in environment


def test_trust_holds_the_public_half_of_the_signing_key(layout: Layout) -> None:
    assert keys.trusted(layout) == (keys.signing_public(layout),)
    assert len(signing.decode(keys.trusted(layout)[0])) == 32


def test_credentials_fit_the_listed_client(layout: Layout, stack: plan.Plan) -> None:
    [made] = clients.add(layout, stack, ["site-1"], "default", "10.0.0.7")
    [listed] = clients.listed(layout)
    assert listed.device == keys.user_of(made.device_seed)
    assert made.servers == (f"nats://10.0.0.7:{stack.ports['nats']}",)
    assert made.trust == keys.trusted(layout)
    assert Credentials.model_validate_json(made.to_bytes()) == made
    assert made.device_seed not in layout.client_list.read_text()
    assert made.token is not None
    said = bus_claims.read(made.token)
    assert said["sub"] == listed.device
    assert said["nats"]["tags"] == ["project:default"]


def test_a_name_is_given_once_and_can_be_given_again_after_removal(
    layout: Layout, stack: plan.Plan
) -> None:
    clients.add(layout, stack, ["a", "b"], "default", None)
    with pytest.raises(LocalError, match="there is a client a already"):
        clients.add(layout, stack, ["a"], "default", None)
    clients.add(layout, stack, ["a"], "other", None)
    gone = clients.remove(layout, "a", "default")
    assert [(each.name, each.project) for each in clients.listed(layout)] == [
        ("b", "default"),
        ("a", "other"),
    ]
    assert gone.device not in layout.client_list.read_text()
    with pytest.raises(LocalError, match="there is no client a"):
        clients.remove(layout, "a", "default")


@pytest.mark.parametrize("name", ["", "../etc", "a b", "-x", "x" * 65, "é"])
def test_a_bad_client_name_is_refused(layout: Layout, stack: plan.Plan, name: str) -> None:
    with pytest.raises(LocalError, match="is not a client name"):
        clients.add(layout, stack, [name], "default", None)


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write_private(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_private(path, "\ud800")
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["secret"]


def test_the_store_s_identity_is_the_one_services_use(layout: Layout, stack: plan.Plan) -> None:
    servers.all_of(layout, stack)
    [identity] = json.loads((layout.config / "s3.json").read_text())["identities"]
    [pair] = identity["credentials"]
    environment = services.environment(layout, stack, "combiner", "combiner-1")
    assert pair["accessKey"] == environment["FEDBUS_S3__ACCESS_KEY"]
    assert pair["secretKey"] == Path(environment["FEDBUS_S3__SECRET_KEY_FILE"]).read_text().strip()
