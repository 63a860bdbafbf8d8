"""How a session's event stream is read, without any I/O."""

from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from fedbus_schemas.codec import Unreadable, read
from fedbus_schemas.views import LiveUpdate, LiveValidation, LoggedEvent, SessionView

from fedbus.api.errors import BadAnswer

Event: TypeAlias = LoggedEvent | LiveUpdate | LiveValidation
E = TypeVar("E", bound=Event)
ENDS = frozenset({"session.completed.v1", "session.stopped.v1", "session.failed.v1"})
EXTENDED = "session.extended.v1"
OVER = frozenset({"completed", "stopped", "failed"})
SILENCE_MAX_S = 45.0
"""The api says something every 15 s; three missed, and the connection is dead."""
BACKOFF_S, BACKOFF_MAX_S = 0.2, 5.0
_LIVE: dict[str, type[LiveUpdate | LiveValidation]] = {
    "update.stored": LiveUpdate,
    "validation.reported": LiveValidation,
}


@dataclass
class Told:
    """What a reader has been told so far: where it goes on, and whether the session has ended."""

    after: int
    ended: bool = False
    number: int | None = None


@dataclass
class Lines:
    """Makes events of one connection's lines. An entry's events come when its last one is there: none twice."""

    told: Told
    seen: bool = False
    _entry: list[LoggedEvent] = field(default_factory=list)
    _kind: str = ""
    _sequence: int | None = None

    def take(self, line: str) -> list[Event]:
        """Give the events that are complete with this line."""
        name, _, value = line.partition(": ")
        if name == "event":
            self._kind, self._sequence = value, None
        elif name == "id":
            self._sequence = int(value)
        elif name == "data" and self._kind in _LIVE:
            return [_read(_LIVE[self._kind], value)]
        elif name == "data":
            self._entry.append(_read(LoggedEvent, value))
            if self._sequence is not None:
                return self._complete(self._sequence)
        return []

    def _complete(self, sequence: int) -> list[Event]:
        entry, self._entry, self.seen = self._entry, [], True
        self.told.after, self.told.number = sequence, entry[-1].number
        for event in entry:
            if event.type in ENDS or event.type == EXTENDED:
                self.told.ended = event.type in ENDS
        return [*entry]


def is_over(view: SessionView, told: Told) -> bool:
    """Say whether a stream was empty because nothing is still to come, not because the api stops."""
    return view.phase in OVER and view.number <= (told.number or view.number)


def _read(kind: type[E], value: str) -> E:
    try:
        return read(kind, value.encode())
    except Unreadable as error:
        raise BadAnswer(f"an event cannot be read: {error}") from error
