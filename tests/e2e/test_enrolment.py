"""Devices join with a token, renew, and are shut out, on a running stack."""

import asyncio
import json
import time
from datetime import UTC, datetime
from pathlib import Path

import fedbus
import nats.errors
import pytest
from fedbus import _enrolment
from fedbus._keys import Keys
from fedbus.credentials import load
from fedbus.errors import Refused
from fedbus_runtime import bus_claims
from fedbus_schemas import signing
from fedbus_schemas.asks import RENEW
from fedbus_schemas.device_views import EnrolRequest

from tests.enrolments import connected, enrol, joined, renewed, revoked, stays_out
from tests.rogue import Rogue
from tests.stacks import Json, eventually, federation
from tests.trainers import TINY, trainer

CUT_WITHIN_S = 1.0
JSON = {"content-type": "application/json"}


async def join_token(fed: Json, **more: object) -> str:
    made: str = (await fed.ask("POST", "/v1/join-tokens", json=more))["bearer"]
    return made


async def test_an_enrolled_device_takes_part_and_is_cut_off_when_revoked(
    stack: Json, tmp_path: Path
) -> None:
    async with federation(stack, clients=1) as fed:
        token = await join_token(fed, uses=2, labels=["site=lund"])
        path = tmp_path / "device.json"
        made = await enrol(fed, token, path, "lund-1")
        assert path.stat().st_mode & 0o777 == 0o600
        assert load(path) == made
        device = Keys(made).device
        options = fedbus.Options(credentials=path)
        client = fedbus.Client(trainer("lund-1", fed.gate), options)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(client.run())
            await fed.online(2)
            session = await fed.start(TINY, rounds=1, minimum=2)
            fed.gate.open()
            await fed.ended(session)
            client.stop()
            await running
        rogue = await Rogue.connect(made)
        began = time.monotonic()
        shut = await fed.ask("POST", "/v1/devices/revoke", json={"label": "site=lund"})
        assert [one["device"] for one in shut["devices"]] == [device]

        async def cut() -> bool:
            return bool(rogue.nats.is_closed)

        await eventually(cut, "the connection is cut")
        assert time.monotonic() - began < CUT_WITHIN_S
        with pytest.raises(nats.errors.Error):
            await Rogue.connect(made)
        with pytest.raises(Refused, match="device_revoked"):
            await asyncio.to_thread(_enrolment.renew, made, Keys(made))
        again = await enrol(fed, token, tmp_path / "again.json", "lund-2")  # new keys, a place left
        assert Keys(again).device != device
        await fed.ask("DELETE", f"/v1/devices/{Keys(again).device}")


async def test_a_join_token_is_good_for_so_many_devices_and_a_lost_answer_costs_none(
    stack: Json, tmp_path: Path
) -> None:
    async with federation(stack, clients=0) as fed:
        token = await join_token(fed, uses=1)
        kept = _enrolment._begun(tmp_path / "keys", str(fed.http.base_url), "a")
        keys = Keys(kept)
        views = []
        for _ in range(3):  # the device hears nothing and asks again
            now = datetime.fromtimestamp(time.time(), UTC)
            request = EnrolRequest(
                join_token=token, device=keys.device, name="a", time=now, proof="A" * 86
            )
            proof = keys.prove(signing.ENROL, request.said())
            body = request.model_copy(update={"proof": proof}).model_dump_json()
            answer = await fed.http.post("/v1/enrol", content=body, headers=JSON)
            assert answer.status_code == 200, answer.text
            views.append(answer.json())
        claims = bus_claims.read(views[0]["token"])
        assert claims["sub"] == keys.device
        assert claims["nats"]["tags"] == [f"project:{fed.project}"]
        assert views[0]["lifetime_s"] == 28 * 86400
        with pytest.raises(Refused, match="join_token_invalid"):
            await enrol(fed, token, tmp_path / "b.json", "b")
        assert not (tmp_path / "b.json").exists()
        [listed] = (await fed.ask("GET", "/v1/join-tokens"))["items"]
        assert (listed["state"], listed["devices"]) == ("used", [keys.device])
        assert token[21:] not in json.dumps(listed)


async def test_what_is_wrong_with_an_enrolment_is_said(stack: Json, tmp_path: Path) -> None:
    async with federation(stack, clients=0) as fed:
        token = await join_token(fed)
        keys = Keys(_enrolment._begun(tmp_path / "keys", "http://x", "a"))
        other = Keys(_enrolment._begun(tmp_path / "other", "http://x", "a"))
        now = time.time()

        async def code(by: Keys = keys, ahead_s: float = 0, **changed: str) -> str:
            at = datetime.fromtimestamp(now + ahead_s, UTC)
            asked = EnrolRequest(
                join_token=token, device=keys.device, name="a", time=at, proof="A" * 86
            ).model_copy(update=changed)
            body = asked.model_copy(update={"proof": by.prove(signing.ENROL, asked.said())})
            answer = await fed.http.post("/v1/enrol", content=body.model_dump_json(), headers=JSON)
            assert answer.status_code in (401, 403, 404, 409, 422)
            if ahead_s:
                assert "60 minutes" in answer.json()["detail"]
            return str(answer.json()["code"])

        assert await code(by=other) == "bad_signature"
        assert await code(ahead_s=3600) == "clock_apart"
        assert await code(ahead_s=-3600) == "clock_apart"
        assert await code(join_token="flj_" + "0" * 16 + "_" + "A" * 43) == "join_token_invalid"
        assert await code(join_token="nonsense") == "join_token_invalid"
        assert await code(device="U" + "A" * 55) == "invalid"
        listed = (await fed.ask("GET", "/v1/join-tokens"))["items"]
        assert all(not one["devices"] for one in listed)


async def test_a_device_renews_over_the_bus_and_by_its_key_alone(
    stack: Json, tmp_path: Path
) -> None:
    async with federation(stack, clients=0) as fed:
        made = await enrol(fed, await join_token(fed), tmp_path / "a.json", "a")
        rogue = await Rogue.connect(made)
        answer = await rogue.ask(RENEW, b"{}")
        assert answer.minted is not None
        assert bus_claims.read(answer.minted.token)["sub"] == rogue.keys.device
        heard = await rogue.is_heard("U" + "B" * 55, RENEW, b"{}")
        assert not heard
        await rogue.nats.close()
        renewed = await asyncio.to_thread(_enrolment.renew, made, Keys(made))
        assert renewed.token is not None
        await (await Rogue.connect(renewed)).nats.close()


@pytest.mark.parametrize("victim", ["controller-1", "api", "nats"])
async def test_whoever_dies_nobody_is_locked_out_or_let_in(
    stack: Json, tmp_path: Path, victim: str
) -> None:
    """Enrolment, renewal and revocation, with a service or NATS killed just before."""
    async with federation(stack, clients=0) as fed:
        token = await join_token(fed)
        await asyncio.to_thread(stack.kill, victim)
        made = await eventually(lambda: joined(fed, token, tmp_path / "a.json"), "a device joins")
        rogue = await eventually(lambda: connected(made), "it is let in")
        await eventually(lambda: renewed(rogue), "it renews")
        await asyncio.to_thread(stack.kill, victim)
        await eventually(lambda: revoked(fed, rogue.keys.device), "it is revoked")
        await eventually(lambda: stays_out(made), "it stays out")
        [listed] = (await fed.ask("GET", "/v1/join-tokens"))["items"]
        assert listed["devices"] == [rogue.keys.device]
