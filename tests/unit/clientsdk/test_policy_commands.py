"""What an owner sees of a policy and of the task log on the command line."""

import json
from datetime import datetime
from hashlib import sha256
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import typer
from fedbus.cli import GROUP, gather
from fedbus.consent import load
from fedbus.consent.policy import Package
from fedbus.consent.tasklog import NAME, Line, TaskLog
from fedbus.errors import BadOption, BadPolicy
from typer.testing import CliRunner, Result

EXAMPLE = Path(__file__).parents[3] / "deploy/gateway/policy.toml"


@pytest.fixture(scope="module")
def app() -> typer.Typer:
    return gather(entry_points(group=GROUP))


def say(app: typer.Typer, *words: str) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def policy(folder: Path, text: str) -> str:
    path = folder / "policy.toml"
    path.write_text(text)
    path.chmod(0o600)
    return str(path)


def test_the_example_is_a_policy(app: typer.Typer, tmp_path: Path) -> None:
    path = policy(tmp_path, EXAMPLE.read_text())
    assert load(Path(path)).cohort.smallest == 5
    said = say(app, "policy", "check", path)
    assert said.exit_code == 0
    assert "inference       declined by tasks.inference" in said.output
    assert '"smallest": 5' in say(app, "policy", "check", path, "--json").output
    bare = "\n".join(
        line.removeprefix("# ") if " = " in line and "<" not in line else line
        for line in EXAMPLE.read_text().splitlines()
    )
    assert load(Path(policy(tmp_path, bare))).tasks.inference is False, "also with all its defaults"


def test_a_wrong_policy_is_told(app: typer.Typer, tmp_path: Path) -> None:
    said = say(app, "policy", "check", policy(tmp_path, "[tasks]\ntrian = true"))
    assert isinstance(said.exception, BadPolicy)
    assert "line 2" in str(said.exception)


def test_explain_says_which_rule_decides(app: typer.Typer, tmp_path: Path) -> None:
    path = policy(
        tmp_path,
        '[cohort]\nsmallest = 5\n[hours]\nwindows = ["19:00-07:00"]\n[limits]\nwall_s = 60\n'
        '[packages]\nremote = "digests"\ndigests = ["' + "ab" * 32 + '"]',
    )
    night, train = ["--at", "2026-11-24T22:00"], ["policy", "explain", path, "--task", "train"]
    said = say(app, *train, "--cohort", "5", *night)
    assert (said.exit_code, said.output) == (0, "allowed, within wall_s 60\n")
    for words, rule in (
        (["--cohort", "4", *night], "cohort.smallest"),
        (["--cohort", "5", "--at", "2026-11-24T12:00"], "hours.windows"),
        (["--cohort", "5", *night, "--package", "cd" * 32], "packages.digests"),
        (["--cohort", "5", *night, "--no-local-packages"], "server.local_packages"),
    ):
        said = say(app, *train, *words)
        assert said.exit_code == 1
        assert said.output.startswith(f"declined by {rule}: ")
    every = say(app, "policy", "explain", path, "--cohort", "5", *night)
    assert every.output.count("\n") == 7
    assert isinstance(say(app, *train, "--at", "soon").exception, BadOption)


def test_the_log_is_shown(app: typer.Typer, tmp_path: Path) -> None:
    place: Line = {"task": "train", "session": "s-1", "round": 2, "attempt": 1}
    at = datetime.fromisoformat("2026-11-24T12:00:00+00:00")
    for site in ("a", "b"):
        log = TaskLog(tmp_path / site / NAME, 10_000, 2)
        log.write("asked", at, {**place, "verdict": "denied", "rule": "x.y", "detail": "why"})
        log.write("ended", at, {**place, "outcome": "done", "seconds": 1.5})
        left: Line = {"digest": "ab" * 32, "bytes": 7, "keys": ["loss"], "records": 3}
        log.write("leaves", at, {**place, **left})
    said = say(app, "client", "log", str(tmp_path))
    assert (
        said.output.count("2026-11-24T12:00:00.000+00:00  train      s-1 2.1  denied by x.y") == 2
    )
    assert "leaves: 7 bytes, 3 examples, metrics: loss (abababababab…)" in said.output
    assert "ended: done after 1.5 s" in said.output
    assert say(app, "client", "log", str(tmp_path), "--limit", "1").output.count("\n") == 1
    assert '"what": "asked"' in say(app, "client", "log", str(tmp_path), "--json").output
    assert isinstance(say(app, "client", "log", str(tmp_path / "none")).exception, BadOption)


def test_a_signer_vouches_for_a_package(app: typer.Typer, tmp_path: Path) -> None:
    key, archive = tmp_path / "signer.key", tmp_path / "package.tgz"
    archive.write_bytes(b"an archive")
    public = say(app, "signer", "new", str(key)).output.strip()
    assert key.stat().st_mode & 0o777 == 0o600
    said = json.loads(say(app, "signer", "sign", str(archive), "--key", str(key)).output)
    digest = sha256(b"an archive").hexdigest()
    pair = (said["key"], said["signature"])
    assert Package.remote(digest, [pair]).signers == (public,)
    assert Package.remote("0" * 64, [pair]).signers == ()
    again = say(app, "signer", "new", str(key))
    assert isinstance(again.exception, BadOption)
    for words in (
        ["sign", str(archive), "--key", str(archive)],
        ["sign", str(tmp_path / "none"), "--key", str(key)],
        ["sign", str(archive), "--key", str(tmp_path / "none")],
    ):
        assert isinstance(say(app, "signer", *words).exception, BadOption), words
