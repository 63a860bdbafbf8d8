"""A session's events as they happen, across an api that goes away and comes back."""

import logging
import time
from collections.abc import Iterator
from typing import TypeAlias, TypeVar

from fedbus_schemas.codec import Unreadable, read
from fedbus_schemas.views import LiveUpdate, LiveValidation, LoggedEvent, SessionView

from fedbus.api._http import Connection
from fedbus.api.errors import ApiAway, BadAnswer

Event: TypeAlias = LoggedEvent | LiveUpdate | LiveValidation
E = TypeVar("E", bound=Event)
ENDS = frozenset({"session.completed.v1", "session.stopped.v1", "session.failed.v1"})
EXTENDED = "session.extended.v1"
OVER = frozenset({"completed", "stopped", "failed"})
SILENCE_MAX_S = 45.0
"""The api says something every 15 s; three missed, and the connection is dead."""
BACKOFF_S, BACKOFF_MAX_S = 0.2, 5.0
LIVE: dict[str, type[LiveUpdate | LiveValidation]] = {
    "update.stored": LiveUpdate,
    "validation.reported": LiveValidation,
}

log = logging.getLogger("fedbus.api")


class Watch:
    """Follows one session. Each event of the log comes once, in order; hints come at most once."""

    def __init__(self, http: Connection, session: str, after: int, patience_s: float) -> None:
        self._http = http
        self._session = session
        self._number: int | None = None
        self._path = f"/v1/sessions/{session}/events"
        self._after = after
        self._patience_s = patience_s
        self._ended = False

    def events(self) -> Iterator[Event]:
        """Give the events until the session ends. Raises `ApiAway` once the patience is over."""
        away_since_s: float | None = None
        backoff_s = BACKOFF_S
        while not self._ended:
            try:
                for event in self._connected():
                    away_since_s, backoff_s = None, BACKOFF_S
                    yield event
                if self._ended:
                    return
            except ApiAway as error:
                now_s = time.monotonic()
                away_since_s = now_s if away_since_s is None else away_since_s
                if now_s - away_since_s >= self._patience_s:
                    raise
                log.info("%s; trying again in %g s", error.detail, backoff_s)
            time.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, BACKOFF_MAX_S)

    def _connected(self) -> Iterator[Event]:
        """Read one connection. An entry's events are given when its last one is there: no one comes twice."""
        entry: list[LoggedEvent] = []
        kind, number, seen = "", None, False
        with self._http.stream(
            self._path,
            params={"follow": "false"},
            headers={"Last-Event-ID": str(self._after)},
            silence_max_s=SILENCE_MAX_S,
        ) as response:
            for line in response.iter_lines():
                name, _, value = line.partition(": ")
                if name == "event":
                    kind, number = value, None
                elif name == "id":
                    number = int(value)
                elif name == "data" and kind in LIVE:
                    yield _read(LIVE[kind], value)
                elif name == "data":
                    entry.append(_read(LoggedEvent, value))
                    if number is not None:
                        seen = True
                        self._take(entry, number)
                        yield from entry
                        entry = []
        if not seen:
            self._ended = self._is_over()

    def _take(self, entry: list[LoggedEvent], sequence: int) -> None:
        self._after, self._number = sequence, entry[-1].number
        for event in entry:
            if event.type in ENDS or event.type == EXTENDED:
                self._ended = event.type in ENDS

    def _is_over(self) -> bool:
        """Say whether the stream was empty because nothing is still to come, not because the api stops."""
        view = self._http.get(SessionView, f"/v1/sessions/{self._session}")
        return view.phase in OVER and view.number <= (self._number or view.number)


def _read(kind: type[E], value: str) -> E:
    try:
        return read(kind, value.encode())
    except Unreadable as error:
        raise BadAnswer(f"an event cannot be read: {error}") from error
