"""Sessions run by compute packages on the whole stack: side by side, pinned, never swapped."""

import asyncio
import secrets
from pathlib import Path

import fedbus
import httpx
import pytest
from fedbus.packages.archive import create
from fedbus.packages.host import PackageHost
from fedbus_core.aggregation.tensorfile import write
from fedbus_local.stack import LocalStack

from tests.stacks import HTTP_TIMEOUT_S, Json, eventually
from tests.trainers import TINY

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
        assert {path.name for path in (tmp_path / "one" / "packages").iterdir()} == {ones, twos}
        client.stop()
