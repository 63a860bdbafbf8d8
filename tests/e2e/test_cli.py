"""The operator's commands on a real stack: what they print, how they end, and what the server then has."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from fedbus._tensorfile import write
from fedbus_local.stack import LocalStack

from tests.e2e.commands import environment, say
from tests.stacks import eventually, federation
from tests.trainers import TINY

Say = Callable[..., Any]


def seed(folder: Path) -> Path:
    path = folder / "seed.safetensors"
    path.write_bytes(write(TINY))
    return path


async def test_commands_train_a_model_and_tell_of_it(stack: LocalStack, tmp_path: Path) -> None:
    async with federation(stack, clients=2) as fed:
        given = environment(fed)

        def tell(*words: object) -> Any:
            return json.loads(say(given, *words, "-o", "json"))

        def order(*words: object, code: int = 0) -> str:
            return say(given, *words, code=code)

        await asyncio.to_thread(_trains, order, tell, tmp_path)
        await asyncio.to_thread(_is_looked_into, order, tell, tmp_path)

        async def measured() -> bool:
            return await asyncio.to_thread(order, "validation", "count") == "8\n"

        await eventually(measured, "both clients measured all four models")
        found = await asyncio.to_thread(tell, "validation", "list", "--client", "site-001")
        assert len(found) == 4
        await asyncio.to_thread(_is_ordered, order, tell)


def _trains(order: Say, tell: Say, folder: Path) -> None:
    order("session", "start", code=9)  # there is no model yet
    uploaded = tell("model", "upload", seed(folder), "--name", "seed")
    assert tell("model", "get", uploaded["digest"][:8])["name"] == "seed"
    start = (
        "session", "start", "--id", "digits-1", "--name", "digits", "--rounds", 3, "--minimum", 2,
        "--invited", 2, "--target", 2, "--round-timeout", 120, "-a", "fedavgm", "-p", "momentum=0.5",
        "--train", "lr=0.1", "--set", "seed=7", "--set", "model_prefix=digits-", "--client", "site-001",
        "--client", "site-002", "-m", uploaded["digest"][:8],
    )  # fmt: skip
    told = order(*start, "--watch")
    assert told.splitlines()[-1].endswith("session completed")
    settings = tell("session", "get", "digits-1")["settings"]
    assert settings["aggregator_parameters"]["momentum"] == 0.5
    assert (settings["train"], settings["seed"], settings["invited"]) == ({"lr": 0.1}, 7, 2)
    assert len(settings["clients"]["ids"]) == 2
    assert "to 4 rounds" not in order("session", "continue", "digits-1", "--rounds", 1, "--watch")
    assert tell("session", "get", "digits-1")["rounds_completed"] == 4
    assert [one["rounds"] for one in tell("session", "runs", "digits-1")] == [3, 1]
    assert order("session", "count", "--phase", "completed") == "1\n"


def _is_looked_into(order: Say, tell: Say, folder: Path) -> None:
    [session] = yaml.safe_load(order("session", "list", "--name", "digits", "-o", "yaml"))
    rounds = tell("round", "list", "--session", "digits-1", "--sort", "number")
    assert [one["number"] for one in rounds] == [1, 2, 3, 4]
    assert len(tell("round", "list", "--filter", "number__gte=3", "-n", 1)) == 1
    assert tell("round", "get", "digits-1", 2)["attempts"][-1]["counted"] == 2
    explained = tell("round", "explain", "digits-1", 2, "--client", "site-001")
    assert [one["standing"] for one in explained["clients"]] == ["counted"]
    assert "site-001" in order("round", "explain", "digits-1", 2)
    assert "completed in" in order("round", "trace", "digits-1", 2)
    log = tell("session", "log", "digits-1", "--type", "round.completed.v1")
    assert [one["data"]["round"] for one in log] == [1, 2, 3, 4]
    human = order("session", "list").splitlines()
    assert human[0].split("\t")[:3] == ["session", "name", "phase"]
    assert human[1].startswith("digits-1\tdigits\tcompleted")

    trail = tell("model", "trail", "newest")
    assert [one["digest"] for one in trail][:-1] == [one["model"] for one in reversed(rounds)]
    assert len(tell("model", "descendants", trail[-1]["digest"])) == 4
    assert [one["digest"] for one in tell("model", "leaves")] == [session["model"]]
    assert sorted(TINY) == sorted(
        line.split("\t")[0] for line in order("model", "parameters").splitlines()[1:]
    )
    path = folder / "new.safetensors"
    order("model", "download", "newest", "--to", path)
    assert path.stat().st_size == trail[0]["size"]
    order("model", "download", "newest", "--to", path, code=2)  # it is there already
    order("stage", "promote", "candidate", "-m", "newest", "--reason", "try")
    order("stage", "promote", "production", "-m", trail[-1]["digest"][:10])
    order("stage", "promote", "production", "--from", "candidate")
    assert tell("stage", "get", "production")["model"] == session["model"]
    assert tell("stage", "rollback", "production")["model"] == trail[-1]["digest"]
    assert {one["stage"] for one in tell("stage", "list")} == {"candidate", "production"}


def _is_ordered(order: Say, tell: Say) -> None:
    order("session", "start", "--id", "digits-2", "--rounds", 100_000, "--no-validate")
    assert order("session", "pause", "digits-2") == "digits-2 is paused\n"
    assert tell("session", "get", "digits-2")["phase"] == "paused"
    assert tell("session", "resume", "digits-2")["phase"] == "running"
    order("session", "stop", "digits-2", "--reason", "enough")
    assert tell("session", "get", "digits-2")["reason"] == "enough"
    order("session", "watch", "digits-2", code=10)
    order("session", "pause", "digits-2", code=1)  # session_ended
    assert tell("session", "archive", "digits-2")["archived"]
    both = tell("session", "compare", "digits-1", "digits-2")
    assert "rounds" in {one["setting"] for one in both["settings"]}
    assert "the same start: False" in order("session", "compare", "digits-1", "digits-2")

    assert [
        one["name"] for one in tell("client", "list", "--online", "true", "--sort", "name")
    ] == [
        "site-001",
        "site-002",
    ]
    assert order("client", "rename", "site-002", "north").endswith("is named north now\n")
    assert tell("client", "get", "north")["name"] == "north"
    order("client", "erase", "north", "--yes")
    order("client", "get", "north", code=9)
    assert tell("combiner", "list")[0]["session"].startswith("digits-")
    assert tell("controller", "list")[0]["name"].startswith("controller-")
    assert tell("project", "get")["sessions"] == {"completed": 1, "stopped": 1}
    assert tell("refusal", "list") == tell("dead-letter", "list") == []
    assert tell("aggregator", "get", "fedavgm")["parameters"]
    made = tell("token", "add", "anna", "--role", "viewer", "--days", 1)
    assert tell("token", "list", "--state", "valid")[0]["name"] == "anna"
    order("session", "count", "--token-file", "/nowhere", code=2)
    order("token", "revoke", made["token"])
    assert order("token", "count", "--state", "valid") == "0\n"
    assert "anna" in order("act", "list", "-o", "json") or order("act", "count") != "0\n"


async def test_package_commands(stack: LocalStack, tmp_path: Path) -> None:
    async with federation(stack, clients=1) as fed:
        given = environment(fed)

        def tell(*words: object) -> Any:
            return json.loads(say(given, *words, "-o", "json"))

        def packs() -> None:
            folder = tmp_path / "client"
            folder.mkdir()
            (folder / "fedbus.yaml").write_text("entry_points: {train: {command: python train.py}}")
            (folder / "train.py").write_text("")
            archive = tmp_path / "package.tgz"
            say(given, "package", "create", folder, "-o", archive)
            made = tell("package", "upload", archive, "--name", "one", "--activate")
            assert made["active"]
            assert tell("package", "list")[0]["digest"] == made["digest"]
            assert tell("package", "get", made["digest"][:8]) == made
            say(given, "package", "download", made["digest"][:8], "--to", tmp_path / "copy.tgz")
            assert (tmp_path / "copy.tgz").read_bytes() == archive.read_bytes()
            assert tell("package", "deactivate")["package"] is None
            assert tell("package", "activate", made["digest"])["package"] == made["digest"]
            say(given, "model", "upload", seed(tmp_path))
            assert tell("package", "initialise", made["digest"])["generation"] == 2
            assert tell("package", "active")["package"] == made["digest"]

        await asyncio.to_thread(packs)


def test_contexts_the_local_stack_and_exit_codes(stack: LocalStack, tmp_path: Path) -> None:
    away = {"FEDBUS_CONFIG_DIR": str(tmp_path), "FEDBUS_DIR": str(tmp_path / "none")}
    say(away, "session", "count", code=2)  # no api is named anywhere
    local = {**away, "FEDBUS_DIR": str(stack.layout.root)}
    assert say(local, "session", "count") == "0\n"  # the local stack, without arguments
    token = tmp_path / "token"
    token.write_text(stack.api_token)
    say(away, "context", "add", "prod", stack.api_url, "--token-file", token, "--project", "trial")
    assert (tmp_path / "contexts.json").stat().st_mode & 0o777 == 0o600
    assert json.loads(say(away, "project", "get", "-o", "json"))["project"] == "trial"
    say(away, "context", "add", "bare", stack.api_url, "--no-use")
    say(away, "session", "count", "--context", "bare", code=8)  # no token goes with it
    say(away, "session", "count", "--context", "unknown", code=2)
    say(away, "session", "get", "unknown", code=9)
    say(away, "session", "list", "--filter", "nothing=1", code=1)  # field_unknown
    say(away, "session", "count", "--api", "http://127.0.0.1:9", code=3)
    assert say(away, "context", "use", "local") == "local is used from now on\n"
    shown = json.loads(say(away, "context", "list", "-o", "json"))
    assert [one["name"] for one in shown if one["used"]] == ["local"]
    assert stack.api_token not in json.dumps(shown)
    say(away, "context", "remove", "prod")
    say(away, "context", "use", "prod", code=2)
    done = subprocess.run(
        [sys.executable, "-m", "fedbus", "session", "get", "unknown"],
        env={**os.environ, **local},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 9
    assert done.stderr.startswith("fedbus: session_unknown: ")
