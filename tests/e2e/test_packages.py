"""Sessions run by compute packages on the whole stack: side by side, pinned, never swapped."""

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import numpy as np
import pytest
from fedbus import cli
from fedbus.api import ApiError
from fedbus.packages.archive import create
from fedbus.packages.host import LocalPackage, PackageHost
from fedbus.packages.limits import RunLimits
from fedbus_core.aggregation.tensorfile import write
from fedbus_local.stack import LocalStack
from fedbus_schemas.events import RoundCompleted
from typer.testing import CliRunner

from tests.stacks import Json, eventually, federation
from tests.trainers import TINY

RIDGE = Path(__file__).parents[2] / "examples" / "packages" / "ridge"
MANIFEST = """
entry_points:
  train: {command: python train.py}
  validate: {command: python validate.py}
"""
TRAIN = """
import json, sys
import numpy as np
given, made = sys.argv[1:]
arrays = np.load(given)
np.savez_compressed(made, **{name: arrays[name] + STEP for name in arrays.files})
json.dump({"num_examples": 5, "step": STEP}, open(made + "-metadata", "w"))
"""
VALIDATE = """
import json, sys
import numpy as np
arrays = np.load(sys.argv[1])
json.dump({"mean": float(np.mean([arrays[n].mean() for n in arrays.files]))}, open(sys.argv[2], "w"))
"""


def archive(folder: Path, step: int) -> bytes:
    """Pack a package in FEDn's style that adds a step to every number."""
    place = folder / f"client-{step}"
    place.mkdir()
    (place / "fedn.yaml").write_text(MANIFEST)
    (place / "train.py").write_text(TRAIN.replace("STEP", str(step)))
    (place / "validate.py").write_text(VALIDATE)
    return create(place, folder / f"{step}.tgz").path.read_bytes()


async def test_two_sessions_run_two_packages_and_neither_is_swapped(
    stack: LocalStack, tmp_path: Path
) -> None:
    async with federation(stack, clients=0) as fed:
        await fed.add("one", PackageHost(tmp_path / "one"))
        await fed.online(1)
        ones, twos = [
            (await fed.ask("POST", "/v1/packages", content=archive(tmp_path, step)))["digest"]
            for step in (1, 2)
        ]
        model = (await fed.ask("POST", "/v1/models", content=write(TINY)))["digest"]
        await fed.ask("PUT", "/v1/packages/active", json={"package": ones})
        body = {"model": model, "rounds": 1, "minimum": 1, "round_timeout_s": 120}
        first = (await fed.ask("POST", "/v1/sessions", json=body))["session"]
        swap = await fed.http.put("/v1/packages/active", json={"package": twos})
        assert swap.json()["code"] == "federation_configured"
        await fed.ask("POST", "/v1/federation/initialise", json={"package": twos, "model": model})
        second = (await fed.ask("POST", "/v1/sessions", json=body))["session"]
        for session, package, step in ((first, ones, 1), (second, twos, 2)):

            async def ended(session: str = session) -> bool:
                view = await fed.ask("GET", f"/v1/sessions/{session}")
                return bool(view["phase"] == "completed")

            async def validated(session: str = session) -> bool:
                view = await fed.ask("GET", f"/v1/sessions/{session}")
                return bool(view["validation"]["reports"] == 1)

            await eventually(ended, f"{session} ends", 100)
            await eventually(validated, f"{session} is validated")
            view = await fed.ask("GET", f"/v1/sessions/{session}")
            assert view["package"] == package
            assert view["metrics"]["step"] == step
            assert view["validation"]["metrics"]["mean"] == pytest.approx(step)
        kept = (tmp_path / "one" / "packages").glob("*/*")
        assert {path.name for path in kept if path.is_dir()} == {ones, twos}


def running_from(folder: Path) -> list[str]:
    """Give the command lines of the processes whose words name this folder."""
    found = (path / "cmdline" for path in Path("/proc").iterdir() if path.name.isdigit())
    lines = []
    for path in found:
        try:
            lines.append(path.read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # it has ended meanwhile
            continue
    return [line for line in lines if str(folder) in line]


async def test_clients_started_by_the_command_run_the_example(
    stack: LocalStack, tmp_path: Path
) -> None:
    made = create(RIDGE, tmp_path / "ridge.tgz")
    async with federation(stack, clients=0) as fed:
        remote, local = await asyncio.to_thread(
            stack.make_credentials, ["north", "south"], fed.project
        )
        processes = []
        for one, more in ((remote, ()), (local, ("--local-package", str(RIDGE)))):
            file = stack.write_credentials(one, tmp_path / f"{one.name}.json")
            command = [
                sys.executable,
                "-m",
                "fedbus",
                "client",
                "start",
                "--credentials",
                str(file),
            ]
            command += ["--state-dir", str(tmp_path / one.name), *more]
            processes.append(
                await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
            )
        await fed.online(2)
        uploaded = await fed.ask("POST", "/v1/packages", content=made.path.read_bytes())
        assert uploaded["digest"] == made.digest
        await fed.ask("PUT", "/v1/packages/active", json={"package": made.digest})
        model = {"0": np.zeros(8, np.float32), "1": np.zeros(1, np.float32)}
        session = await fed.start(model, rounds=2, minimum=2, train={"steps": 5})
        await fed.ended(session)
        first, second = [one["metrics"]["mse"] for one in await fed.rounds(session)]
        assert second < first
        await fed.assert_sound(session)
        page = await fed.ask("GET", "/v1/attributes", params={"key": "examples"})
        assert [one["value"] for one in page["items"]] == [200, 200]
        assert len(running_from(tmp_path)) >= 3  # the clients, and the package of one of them
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            assert await process.wait() == 0, (await process.communicate())[1]
        await eventually(lambda: _nothing_from(tmp_path), "what the packages ran has ended")


async def _nothing_from(folder: Path) -> bool:
    return not running_from(folder)


async def test_the_commands_manage_the_packages_of_a_federation(
    stack: LocalStack, tmp_path: Path
) -> None:
    async with federation(stack, clients=0) as fed:
        app = cli.gather(())

        def call(*words: str) -> str:
            where = ["--api", stack.api_url, "--project", fed.project]
            env = {"FEDBUS_API_TOKEN": stack.api_token}
            words = ("package", *words, *where)
            return CliRunner().invoke(app, words, env=env, catch_exceptions=False).stdout

        async def say(*words: str) -> str:
            return await asyncio.to_thread(call, *words)

        # A seed before any package, which FEDn's servers did not survive.
        model = (await fed.ask("POST", "/v1/models", content=write(TINY)))["digest"]
        assert json.loads(await say("list", "-o", "json")) == []
        (tmp_path / "ones.tgz").write_bytes(archive(tmp_path, 1))
        told = await say("upload", str(tmp_path / "ones.tgz"), "--activate", "-o", "json")
        ones = json.loads(told)["digest"]
        assert (json.loads(told)["name"], json.loads(told)["active"]) == ("ones", True)
        await say("upload", str(tmp_path / "client-1"), "--name", "again")  # the same bytes
        twos = json.loads(await say("upload", str(RIDGE), "-o", "json"))["digest"]
        assert [row.split("\t")[0] for row in (await say("list")).splitlines()[1:]] == [twos, ones]
        assert twos in await say("get", twos[:10])
        await fed.start(TINY, rounds=1, minimum=1)
        with pytest.raises(ApiError, match="federation_configured"):
            await say("activate", "ridge")
        assert "so it is not replaced" in await say("active")
        with pytest.raises(ApiError, match="no package has the name"):
            await say("get", "nothing")
        told = await say("initialise", "ridge", "--model", model)
        assert told == f"generation 2: new sessions pin the package {twos}\n"
        await say("download", "ones", "--to", str(tmp_path / "back.tgz"))
        assert (tmp_path / "back.tgz").read_bytes() == (tmp_path / "ones.tgz").read_bytes()


HANGS_THEN_FAILS = """
import os, pathlib, time

def train(model, settings):
    first, second = pathlib.Path("first"), pathlib.Path("second")
    if not first.exists():
        first.write_text(str(os.getpid()))
        time.sleep(600)
    if not second.exists():
        second.touch()
        raise OSError("no camera")
    return model, 1, {}

def startup(client):
    client.set_train_callback(train)
    client.set_inference_callback(lambda model, asked: {"sum": sum(a.sum() for a in model.values())})
    client.set_custom_callback("pid", lambda model, asked: {"pid": os.getpid(), **asked})
"""


async def test_one_that_hangs_is_ended_at_the_deadline_and_counts_in_no_later_attempt(
    stack: LocalStack, tmp_path: Path
) -> None:
    place = tmp_path / "client"
    place.mkdir()
    (place / "fedbus.yaml").write_text("entry_points: {startup: startup.py}")
    (place / "startup.py").write_text(HANGS_THEN_FAILS)
    (place / ".fedbusignore").write_text("first\nsecond")
    async with federation(stack, clients=0) as fed:
        packages = LocalPackage(place, tmp_path / "home", run_limits=RunLimits(grace_s=0.2))
        await fed.add("one", packages)
        await fed.online(1)
        session = await fed.start(TINY, rounds=1, minimum=1, round_timeout_s=2, attempts_max=20)
        await fed.ended(session)
        [done] = await fed.rounds(session)
        assert done["attempt"] >= 3
        events = await fed.assert_sound(session)
        completed = [one for one in events if isinstance(one, RoundCompleted)]
        assert [len(one.counted) for one in completed] == [1]
        assert not Path("/proc", (place / "first").read_text()).exists()

        async def told() -> Json:
            page = await fed.ask("GET", "/v1/status-events", params={"level": "error"})
            return [one["text"] for one in page["items"] if one["session"] == session]

        [line] = await eventually(told, "the servers have the package's own line")
        assert line == "train: function train: it failed: OSError: no camera"

        async def answer(**body: Json) -> Json:
            made = await fed.ask("POST", "/v1/commands", json={"timeout_s": 60, **body})
            path = f"/v1/commands/{made['command']}"
            ended = await fed.ask("GET", path, params={"wait_s": 30})
            assert ended["status"] == "completed", ended
            [one] = (await fed.ask("GET", f"{path}/results"))["items"]
            return json.loads(one["value"])

        model = (await fed.show(session))["initial_model"]
        total = sum(float(one.sum()) for one in TINY.values())
        assert await answer(task="inference", model=model) == {"sum": pytest.approx(total)}
        first = await answer(task="custom:pid", parameters={"asked": 3})
        assert first["asked"] == 3
        assert await answer(task="restart") == {"package": ""}
        assert (await answer(task="custom:pid"))["pid"] != first["pid"]
