"""The commands: exit codes 0, 1 and 2, and what they say."""

import json
import runpy
import sys
from pathlib import Path
from typing import Any, Self

import pytest
from fedbus_auditor import commands, signatures
from fedbus_auditor.commands import app
from fedbus_auditor.errors import ApiFailed
from fedbus_auditor.export import Source
from fedbus_schemas import signing
from typer.testing import CliRunner

from tests import audit_worlds as worlds
from tests.audit_worlds import CLIENTS, CONTROLLER, STRANGER

RUN = CliRunner()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "s.tar"
    path.write_bytes(worlds.three_rounds().bundle())
    return path


@pytest.fixture
def trust(tmp_path: Path) -> Path:
    path = tmp_path / "trust.json"
    path.write_text(json.dumps({"keys": [CONTROLLER.public]}))
    return path


def test_verify_is_0_for_a_true_bundle(bundle: Path, trust: Path) -> None:
    done = RUN.invoke(app, ["verify", str(bundle), "--trust", str(trust)])
    assert done.exit_code == 0, done.output
    assert "OK: everything that was checked" in done.output
    assert "given from outside" in done.output


def test_verify_without_trust_says_what_that_does_not_prove(bundle: Path) -> None:
    done = RUN.invoke(app, ["verify", str(bundle)])
    assert done.exit_code == 0
    assert "NOT where it comes from" in done.output


def test_verify_is_1_for_findings_and_names_the_place(bundle: Path, trust: Path) -> None:
    data = bytearray(bundle.read_bytes())
    data[1000] ^= 1
    bundle.write_bytes(data)
    done = RUN.invoke(app, ["verify", str(bundle), "--trust", str(trust)])
    assert done.exit_code == 1
    assert "log/00000001.json" in done.output
    assert "FAILED" in done.output
    trust.write_text(json.dumps({"keys": [STRANGER.public]}))
    bundle.write_bytes(worlds.three_rounds().bundle())
    done = RUN.invoke(app, ["verify", str(bundle), "--trust", str(trust)])
    assert done.exit_code == 1
    assert "head_untrusted" in done.output


@pytest.mark.parametrize("command", ["verify", "replay"])
def test_2_for_what_cannot_be_read(command: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    done = RUN.invoke(app, [command, str(path)])
    assert done.exit_code == 2
    assert "cannot be read" in done.output
    path.write_bytes(b"a plain file" * 100)
    done = RUN.invoke(app, [command, str(path)])
    assert done.exit_code == 2
    assert "is not a bundle" in done.output


def test_verify_knows_removed_models(bundle: Path) -> None:
    bundle.write_bytes(worlds.three_rounds().without_models().bundle())
    assert RUN.invoke(app, ["verify", str(bundle)]).exit_code == 1
    done = RUN.invoke(app, ["verify", str(bundle), "--models-removed"])
    assert done.exit_code == 0
    assert "3 notes" in done.output


def test_reports_as_json(bundle: Path) -> None:
    done = RUN.invoke(app, ["verify", str(bundle), "-o", "json"])
    document = json.loads(done.output)
    assert document["ok"] is True
    assert document["totals"]["entries"] == 11
    done = RUN.invoke(app, ["replay", str(bundle), "-o", "json"])
    document = json.loads(done.output)
    assert document["ok"] is True
    assert [one["verdict"] for one in document["rounds"]] == ["reproduced"] * 3
    bundle.write_bytes(worlds.paused().bundle())
    done = RUN.invoke(app, ["verify", str(bundle), "-o", "json"])
    assert json.loads(done.output)["findings"][0]["meaning"].startswith("The last entries")


def test_replay_says_each_round_and_its_digest(bundle: Path) -> None:
    done = RUN.invoke(app, ["replay", str(bundle), "--batch-size", "1", "--order-seed", "9"])
    assert done.exit_code == 0
    assert done.output.count("reproduced from") == 3
    for one in worlds.replay(bundle.read_bytes()).rounds:
        assert one.expected in done.output


def test_replay_without_a_client(bundle: Path) -> None:
    done = RUN.invoke(app, ["replay", str(bundle), "--without", CLIENTS[2]])
    assert done.exit_code == 0
    assert f"without {CLIENTS[2]}: " in done.output
    assert "largest difference" in done.output
    assert "the same" in done.output
    assert "no update would be left" in done.output


def test_replay_is_1_when_a_round_is_not_reproduced(bundle: Path) -> None:
    world = worlds.three_rounds()
    key = next(key for key in world.blobs if "/updates/" in key)
    del world.blobs[key]
    bundle.write_bytes(world.bundle())
    done = RUN.invoke(app, ["replay", str(bundle)])
    assert done.exit_code == 1
    assert "impossible" in done.output
    assert "FAILED: 1 of 3" in done.output
    world.log[5] = b"?"
    bundle.write_bytes(world.bundle())
    done = RUN.invoke(app, ["replay", str(bundle)])
    assert done.exit_code == 1
    assert "log/00000006.json" in done.output


def test_replay_shows_both_digests_when_a_model_is_another_one(bundle: Path) -> None:
    world = worlds.one_round()
    first = world.events(1)[0]["data"]["model"]

    def other_model(entry: dict[str, Any]) -> None:
        entry["events"][0]["data"]["model"] = first
        entry["events"][1]["data"]["model"] = first["digest"]

    number = world.entries_with("round.completed.v1")[0]
    bundle.write_bytes(worlds.rechain(world, number, other_model, signer=CONTROLLER).bundle())
    done = RUN.invoke(app, ["replay", str(bundle)])
    assert done.exit_code == 1
    assert f"in the log  {first['digest']}" in done.output
    assert "made here" in done.output


class FakeApi:
    """Stands in for `Api`."""

    def __init__(self, *_: object) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def test_export_writes_a_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(_: Source, project: str, session: str, *, models: bool) -> list[bytes]:
        assert (project, session, models) == ("default", "s-audit", False)
        return [worlds.three_rounds().without_models().bundle()]

    monkeypatch.setattr(commands, "Api", FakeApi)
    monkeypatch.setattr(commands, "bundle", made)
    target = tmp_path / "x.tar"
    words = ["export", "s-audit", "--api", "http://x", "--without-models", "-o", str(target)]
    done = RUN.invoke(app, words)
    assert done.exit_code == 0, done.output
    assert worlds.digest(target.read_bytes()) in done.output
    assert worlds.verify(target.read_bytes(), removed=True).ok


def test_export_is_2_when_the_api_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object, **__: object) -> list[bytes]:
        raise ApiFailed("http://x cannot be read: refused")

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEDBUS_API_URL", raising=False)
    done = RUN.invoke(app, ["export", "s-audit"])
    assert done.exit_code == 2
    assert "give --api" in done.output
    monkeypatch.setattr(commands, "Api", FakeApi)
    monkeypatch.setattr(commands, "bundle", failing)
    monkeypatch.setenv("FEDBUS_API_URL", "http://x")
    done = RUN.invoke(app, ["export", "s-audit"])
    assert done.exit_code == 2
    assert "refused" in done.output
    assert not list(tmp_path.iterdir())
    assert RUN.invoke(app, ["export", "../x"]).exit_code == 2


def test_python_m_runs_the_same_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["fedbus_auditor", "--help"])
    with pytest.raises(SystemExit) as done:
        runpy.run_module("fedbus_auditor", run_name="__main__")
    assert done.value.code == 0


def test_signatures_are_checked_strictly() -> None:
    message = signing.message(signing.HEAD, "x")
    key, signature = CONTROLLER.public, CONTROLLER.sign(signing.HEAD, "x")
    assert signatures.check(key, message, signature)
    assert not signatures.check(key, message + b"!", signature)
    assert not signatures.check(STRANGER.public, message, signature)
    assert not signatures.check("?", message, signature)
    assert not signatures.check(key, message, "?" * 86)
    for last in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_":
        for changed in ((key[:-1] + last, signature), (key, signature[:-1] + last)):
            good = changed == (key, signature)
            assert signatures.check(changed[0], message, changed[1]) == good
