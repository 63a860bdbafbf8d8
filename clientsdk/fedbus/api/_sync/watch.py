# Written by tools/generate_sync_api.py from _async/watch.py (make schemas): change that one.
"""A session's events as they happen, across an api that goes away and comes back."""

import logging
import time
from collections.abc import Iterator
from time import monotonic

from fedbus_schemas.views import SessionView

from fedbus.api._sync.connection import Connection
from fedbus.api._told import BACKOFF_MAX_S, BACKOFF_S, SILENCE_MAX_S, Event, Lines, Told, is_over
from fedbus.api.errors import ApiAway

log = logging.getLogger("fedbus.api")


def watch(http: Connection, session: str, after: int, patience_s: float) -> Iterator[Event]:
    """Give the events until the session ends. Raises `ApiAway` once the patience is over."""
    told = Told(after)
    away_since_s: float | None = None
    backoff_s = BACKOFF_S
    while not told.ended:
        try:
            for event in _connected(http, session, told):
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
        time.sleep(backoff_s)
        backoff_s = min(2 * backoff_s, BACKOFF_MAX_S)


def _connected(http: Connection, session: str, told: Told) -> Iterator[Event]:
    lines = Lines(told)
    with http.stream(
        f"/v1/sessions/{session}/events",
        params={"follow": "false"},
        headers={"Last-Event-ID": str(told.after)},
        silence_max_s=SILENCE_MAX_S,
    ) as response:
        for line in response.iter_lines():
            for event in lines.take(line):
                yield event
    if not lines.seen:
        told.ended = is_over(http.get(SessionView, f"/v1/sessions/{session}"), told)
