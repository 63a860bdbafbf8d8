"""Scenes at the api: somebody asks for something, the api dies over it, and they ask again."""

import asyncio
import secrets
import tempfile
from pathlib import Path

import httpx
import numpy as np
from Crypto.PublicKey import ECC
from fedbus.consent.signers import signature
from fedbus_core.aggregation.tensorfile import write
from fedbus_runtime.system_clock import SystemClock
from fedbus_schemas import subjects
from fedbus_schemas.registry import ClientRecord

from tests.chaos.crash_scenes import HURT_IN, Stage
from tests.e2e.stores import bus_of
from tests.enrolments import connected, joined, renewed, revoked, stays_out
from tests.stacks import eventually
from tests.trainers import LARGE, TINY


async def upload_model(stage: Stage) -> None:
    """Upload a model that was never there; asked again, the api has it once."""
    model = write({"w": np.random.default_rng().normal(size=8).astype(np.float32)})
    await stage.arm()
    uploaded = await stage.fed.ask("POST", "/v1/models", content=model)
    await stage.doomed()
    again = await stage.fed.ask("POST", "/v1/models", content=model)
    assert again["digest"] == uploaded["digest"]


async def store_server_functions(stage: Stage) -> None:
    """Store code that was never there; asked again, the answer is the same."""
    code = f"class ServerFunctions:\n    def aggregate(self, a, b): return a  # {secrets.token_hex(8)}\n"
    await stage.arm()
    stored = await stage.fed.ask("POST", "/v1/server-functions", content=code)
    await stage.doomed()
    assert await stage.fed.ask("POST", "/v1/server-functions", content=code) == stored


async def pause_and_resume(stage: Stage) -> None:
    """Give orders under keys, so that the second asking is the same order."""
    await stage.arm()
    for verb in ("pause", "resume"):
        await stage.fed.ask(
            "POST",
            f"/v1/sessions/{stage.session}/{verb}",
            headers={"Idempotency-Key": secrets.token_hex(8)},
        )
    await stage.doomed()


async def make_and_revoke_a_token(stage: Stage) -> None:
    """Make a token and revoke it; whatever the api was doing when it died, the token ends revoked."""
    fed = stage.fed
    await stage.arm()
    made = await fed.ask("POST", "/v1/tokens", json={"name": "ci", "role": "viewer"})
    mine = {"Authorization": f"Bearer {made['bearer']}"}
    assert (await fed.ask("GET", "/v1/whoami", headers=mine))["name"] == "ci"
    await fed.ask("DELETE", f"/v1/tokens/{made['token']}")
    await stage.doomed()

    async def refused() -> bool:
        answer = await fed.http.get("/v1/whoami", headers=mine)
        return answer.status_code == 401 and answer.json()["code"] == "token_revoked"

    await eventually(refused, "the token holds no more")


async def let_a_device_in_and_shut_it_out(stage: Stage) -> None:
    """Make a join token, enrol, renew and revoke; the device is let in once and stays out afterwards."""
    fed = stage.fed
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "device.json"
        await stage.arm()
        token = (await fed.ask("POST", "/v1/join-tokens", json={}))["bearer"]
        made = await eventually(lambda: joined(fed, token, path), "the device joins")
        rogue = await eventually(lambda: connected(made), "it is let in")
        await eventually(lambda: renewed(rogue), "it renews")
        await eventually(lambda: revoked(fed, rogue.keys.device), "it is revoked")
        await eventually(lambda: stays_out(made), "it stays out")
        await stage.doomed()
        joins = (await fed.ask("GET", "/v1/join-tokens"))["items"]
        [join] = [one for one in joins if one["join"] == token.split("_")[1]]
        assert join["devices"] == [rogue.keys.device]


async def use_a_package(stage: Stage) -> None:
    """In a project of its own, upload a package, vouch for it, activate it, start a session that pins it."""
    fed, project = stage.fed, {"project": f"{stage.fed.project}-{secrets.token_hex(4)}"}
    archive = b"\x1f\x8b" + secrets.token_bytes(16)
    await stage.arm()
    package = (await fed.ask("POST", "/v1/packages", content=archive, params=project))["digest"]
    vouched = signature(ECC.generate(curve="Ed25519"), package).model_dump()
    place = f"/v1/packages/{package}"
    view = await fed.ask("POST", f"{place}/signatures", json=vouched, params=project)
    assert view["signers"] == [vouched["key"]]
    await fed.ask("PUT", "/v1/packages/active", json={"package": package}, params=project)
    model = (await fed.ask("POST", "/v1/models", content=write(TINY), params=project))["digest"]
    body = {"session": "pinned", "model": model, "minimum": 1}
    started = await fed.ask("POST", "/v1/sessions", json=body, params=project)
    await stage.doomed()
    assert started["package"] == package
    federation = await fed.ask("GET", "/v1/federation", params=project)
    assert (federation["generation"], federation["session"]) == (1, "pinned"), federation
    await fed.ask("POST", "/v1/sessions/pinned/stop", params=project)


async def promote_and_roll_back(stage: Stage) -> None:
    """Put two models into a stage and roll back, under a key."""
    fed = stage.fed
    name = f"/v1/stages/s-{secrets.token_hex(4)}"
    digests = []
    for scale in (1, 2):
        content = write({"w": np.full(4, scale, np.float32)})
        digests.append((await fed.ask("POST", "/v1/models", content=content))["digest"])
    await stage.arm()
    for digest in digests:
        await fed.ask("PUT", name, json={"model": digest})
    key = {"Idempotency-Key": secrets.token_hex(8)}
    back = await fed.ask("POST", f"{name}/rollback", headers=key)
    await stage.doomed()
    assert [one["model"] for one in back["history"]] == [digests[0], digests[1], digests[0]]


async def rename_and_erase_a_client(stage: Stage) -> None:
    """In a project of its own, give a client another name and erase it; asked again, it is not there."""
    fed, project = stage.fed, {"project": f"{stage.fed.project}-{secrets.token_hex(4)}"}
    record = ClientRecord(
        device="U" + "A" * 55,
        client="c" + "a" * 16,
        name="north",
        key="k" * 43,
        since=SystemClock().now(),
    )
    async with bus_of(fed.stack, "combiner") as bus:
        subject = subjects.client_record(project["project"], record.device)
        await bus.streams.append(subject, record.to_bytes())
    path = f"/v1/clients/{record.client}"
    await stage.arm()
    renamed = await fed.ask("PATCH", path, json={"name": "south"}, params=project)
    assert renamed["name"] == "south"

    async def erased() -> bool:
        try:
            answer = await fed.http.delete(path, params=project)
        except httpx.TransportError:
            return False
        return answer.status_code in (httpx.codes.NO_CONTENT, httpx.codes.NOT_FOUND)

    await eventually(erased, "the client is erased")
    await stage.doomed()
    assert (await fed.ask("GET", "/v1/clients", params=project))["items"] == []


async def run_one_that_keeps_nothing(stage: Stage) -> None:
    """Let two clients run another session, whose updates are deleted after its round."""
    fed = stage.fed
    await stage.arm()
    model = (await fed.ask("POST", "/v1/models", content=write(LARGE)))["digest"]
    body = {
        "session": f"s-{secrets.token_hex(4)}",
        "model": model,
        "rounds": 1,
        "minimum": 2,
        "keep_updates": False,
        "clients": {"ids": fed.names[:2]},
    }
    await fed.ask("POST", "/v1/sessions", json=body)
    await stage.doomed()
    path = f"/v1/sessions/{body['session']}/audit/updates/1/1"

    async def gone() -> bool:
        view = await fed.ask("GET", f"/v1/sessions/{body['session']}")
        return view["phase"] == "completed" and not (await fed.http.get(path)).text

    await eventually(gone, "the updates are deleted")


async def look_on(stage: Stage) -> None:
    """Ask again and again how the session stands while its rounds end."""
    await stage.arm()
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(_watch(stage))
        stage.fed.gate.open()
        stage.fed.gate.close(stage.fed.names[2:], HURT_IN + 1)
        await stage.doomed()
        watching.cancel()


async def _watch(stage: Stage) -> None:
    while True:
        try:
            await stage.fed.http.get(f"/v1/sessions/{stage.session}")
        except httpx.TransportError:
            await asyncio.sleep(0.1)
