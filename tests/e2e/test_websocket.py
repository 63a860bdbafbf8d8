"""Clients that reach NATS by WebSocket: the same rounds as over a connection of NATS' own."""

import httpx
import pytest
from fedbus_local.stack import LocalStack

from tests.stacks import Json, federation
from tests.trainers import LARGE, TINY


async def kinds(stack: LocalStack, names: list[str]) -> list[str]:
    """Ask NATS how these clients are connected."""
    url = f"http://127.0.0.1:{stack.plan.ports['nats_monitor']}/connz"
    async with httpx.AsyncClient() as http:
        answer = await http.get(url, params={"limit": 1024})
    connected: list[Json] = answer.json()["connections"]
    return [one["type"] for one in connected if one.get("name") in names]


@pytest.mark.parametrize("model", [TINY, LARGE], ids=["tiny", "large"])
async def test_a_session_runs_by_websocket(stack: LocalStack, model: Json) -> None:
    async with federation(stack, clients=2, websocket=True) as fed:
        assert {one.credentials.servers[0].partition(":")[0] for one in fed.sites} == {"ws"}
        session = await fed.start(model, rounds=2)
        await fed.ended(session)
        assert [one["counted"] for one in await fed.rounds(session)] == [2, 2]
        await fed.assert_sound(session)
        assert "websocket" in await kinds(stack, fed.names)
