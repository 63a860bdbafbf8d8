"""A client that renews its token: no flood where the clock is wrong, and nobody waits for it at the end."""

import asyncio
import base64
import json
import socket
import time
from datetime import UTC, datetime
from typing import Any

from fedbus._keys import Keys
from fedbus._renewal import Renewal
from fedbus_schemas.asks import Answer
from fedbus_schemas.credentials import Credentials
from fedbus_schemas.devices import Minted

from tests.unit.clientsdk.services import WAIT_S, Services

DAY_S = 86_400


def token(signed: float, ends: float) -> str:
    claims = json.dumps({"iat": int(signed), "exp": int(ends)}).encode()
    return f"e30.{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.sig"


def holding(world: Any, text: str, api: str | None = None) -> Credentials:
    credentials: Credentials = world.credentials.model_copy(update={"token": text, "api": api})
    return credentials


async def test_a_clock_that_is_ahead_causes_no_flood_of_renewals(
    services: Services, world: Any
) -> None:
    past_half = token(time.time() - 20 * DAY_S, time.time() + 8 * DAY_S)
    minted = Minted(
        token=past_half,
        lifetime_s=28 * DAY_S,
        expires=datetime.fromtimestamp(time.time() + 8 * DAY_S, UTC),
        project="demo",
    )
    services.plan["renew"] = [Answer(minted=minted)] * 100
    credentials = holding(world, past_half)
    async with asyncio.TaskGroup() as group:
        renewing = group.create_task(Renewal(credentials, Keys(credentials), services, None).run())
        await services.until(lambda: services.said("renew"))
        await asyncio.wait([renewing], timeout=0.3)
        renewing.cancel()
    assert len(services.said("renew")) == 1


def test_the_end_does_not_wait_for_an_api_that_says_nothing(world: Any) -> None:
    async def main(api: socket.socket) -> None:
        place = f"http://127.0.0.1:{api.getsockname()[1]}"
        credentials = holding(world, token(0, 1), place)
        renewal = Renewal(credentials, Keys(credentials), Services(world), None)
        async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as group:
            renewing = group.create_task(renewal.run())
            asked, _ = await asyncio.get_running_loop().sock_accept(api)
            held.append(asked)
            renewing.cancel()
        ended.append(time.monotonic())

    ended: list[float] = []
    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as api:
        api.settimeout(0)
        asyncio.run(main(api))
    assert time.monotonic() - ended[0] < WAIT_S
    held[0].close()
