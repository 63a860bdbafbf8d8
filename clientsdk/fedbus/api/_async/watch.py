"""A session's events as they happen, across an api that goes away and comes back."""

import asyncio
import logging
from collections.abc import AsyncIterator
from time import monotonic

from fedbus_schemas.views import SessionView

from fedbus.api._async.connection import AsyncConnection
from fedbus.api._told import BACKOFF_MAX_S, BACKOFF_S, SILENCE_MAX_S, Event, Lines, Told, is_over
from fedbus.api.errors import ApiAway

log = logging.getLogger("fedbus.api")


async def watch(
    http: AsyncConnection, session: str, after: int, patience_s: float
) -> AsyncIterator[Event]:
    """Give the events until the session ends. Raises `ApiAway` once the patience is over."""
    told = Told(after)
    away_since_s: float | None = None
    backoff_s = BACKOFF_S
    while not told.ended:
        try:
            async for event in _connected(http, session, told):
                away_since_s, backoff_s = None, BACKOFF_S
                yield event
            if told.ended:
                return
        except ApiAway as error:
            now_s = monotonic()
            away_since_s = now_s if away_since_s is None else away_since_s
            if now_s - away_since_s >= patience_s:
                raise
            log.info("%s; trying again in %g s", error.detail, backoff_s)
        await asyncio.sleep(backoff_s)
        backoff_s = min(2 * backoff_s, BACKOFF_MAX_S)


async def _connected(http: AsyncConnection, session: str, told: Told) -> AsyncIterator[Event]:
    lines = Lines(told)
    async with http.stream(
        f"/v1/sessions/{session}/events",
        params={"follow": "false"},
        headers={"Last-Event-ID": str(told.after)},
        silence_max_s=SILENCE_MAX_S,
    ) as response:
        async for line in response.aiter_lines():
            for event in lines.take(line):
                yield event
    if not lines.seen:
        told.ended = is_over(await http.get(SessionView, f"/v1/sessions/{session}"), told)
