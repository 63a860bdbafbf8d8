"""Sessions run by compute packages on the whole stack: side by side, pinned, never swapped."""

import asyncio
import secrets
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import fedbus
import httpx
import numpy as np
import pytest
from fedbus.packages.archive import create
from fedbus.packages.host import PackageHost
from fedbus_core.aggregation.tensorfile import write
from fedbus_local.stack import LocalStack

from tests.stacks import HTTP_TIMEOUT_S, Json, eventually, federation
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
    project = f"p-{secrets.token_hex(4)}"
    [made] = await asyncio.to_thread(stack.make_credentials, ["one"], project)
    client = fedbus.Client(PackageHost(tmp_path / "one"), fedbus.Options(credentials=made))
    async with (
        httpx.AsyncClient(
            base_url=stack.api_url,
            headers={"Authorization": f"Bearer {stack.api_token}"},
            params={"project": project},
            timeout=HTTP_TIMEOUT_S,
        ) as http,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(client.run())

        async def ask(method: str, path: str, **more: Json) -> Json:
            answer = await http.request(method, path, **more)
            assert answer.is_success, answer.text
            return answer.json()

        async def online() -> bool:
            page = await ask("GET", "/v1/clients")
            return any(one["online"] is True for one in page["items"])

        await eventually(online, "the client is online")
        ones, twos = [
            (await ask("POST", "/v1/packages", content=archive(tmp_path, step)))["digest"]
            for step in (1, 2)
        ]
        model = (await ask("POST", "/v1/models", content=write(TINY)))["digest"]
        await ask("PUT", "/v1/packages/active", json={"package": ones})
        body = {"model": model, "rounds": 1, "minimum": 1, "round_timeout_s": 120}
        first = (await ask("POST", "/v1/sessions", json=body))["session"]
        swap = await http.put("/v1/packages/active", json={"package": twos})
        assert swap.json()["code"] == "federation_configured"
        await ask("POST", "/v1/federation/initialise", json={"package": twos, "model": model})
        second = (await ask("POST", "/v1/sessions", json=body))["session"]
        for session, package, step in ((first, ones, 1), (second, twos, 2)):

            async def ended(session: str = session) -> bool:
                view = await ask("GET", f"/v1/sessions/{session}")
                return bool(view["phase"] == "completed")

            async def validated(session: str = session) -> bool:
                view = await ask("GET", f"/v1/sessions/{session}")
                return bool(view["validation"]["reports"] == 1)

            await eventually(ended, f"{session} ends", 100)
            await eventually(validated, f"{session} is validated")
            view = await ask("GET", f"/v1/sessions/{session}")
            assert view["package"] == package
            assert view["metrics"]["step"] == step
            assert view["validation"]["metrics"]["mean"] == pytest.approx(step)
        kept = (tmp_path / "one" / "packages").glob("*/*")
        assert {path.name for path in kept if path.is_dir()} == {ones, twos}
        client.stop()


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
