"""When an attempt did what, as the log says: the skeleton of its trace and of the waterfall.

`decided` is the time that an entry's events carry: when the input came that was decided on. `stored` is
when the bus stored the entry. An attempt lasts from the first for its opening to the second for its end.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias

from fedbus_schemas.events import (
    AnyEvent,
    DeadlineMoved,
    RoundClosing,
    RoundCompleted,
    RoundFailed,
    RoundOpened,
    RoundReopened,
    SessionFailed,
    SessionStopped,
)

End: TypeAlias = RoundCompleted | RoundFailed | SessionStopped | SessionFailed


@dataclass(slots=True)
class Phase:
    """A stretch of an attempt: updates are collected, or the model is made. `step` counts the closings."""

    name: Literal["collect", "finish"]
    step: int
    start: datetime
    end: datetime


@dataclass(slots=True)
class AttemptTimes:
    """One attempt of a round. `end` is the last time known while `ended` is unset."""

    opened: RoundOpened
    start: datetime
    end: datetime
    phases: list[Phase] = field(default_factory=list)
    ended: End | None = None
    closings: list[tuple[datetime, RoundClosing]] = field(default_factory=list)
    reopenings: list[tuple[datetime, RoundReopened]] = field(default_factory=list)
    deadline_moves: list[datetime] = field(default_factory=list)

    def begin(self, phase: Literal["collect", "finish"], step: int, at: datetime) -> None:
        """End the phase before and begin another."""
        self.stretch(at)
        self.phases.append(Phase(phase, step, at, at))

    def stretch(self, to: datetime) -> None:
        """Let the attempt and its last phase last until then."""
        self.end = max(self.end, to)
        if self.phases:
            self.phases[-1].end = max(self.phases[-1].end, to)


class Timeline:
    """Follows a session's log, entry by entry."""

    def __init__(self) -> None:
        self.open: AttemptTimes | None = None

    def add(
        self, events: Sequence[AnyEvent], decided: datetime, stored: datetime
    ) -> Iterator[AttemptTimes]:
        """Take the next entry; yields the attempts that ended with it."""
        for event in events:
            attempt = self.open
            if isinstance(event, RoundOpened):
                self.open = AttemptTimes(event, min(decided, stored), stored)
                self.open.begin("collect", 1, stored)
            elif attempt is None:
                continue
            elif isinstance(event, End):
                attempt.stretch(stored)
                attempt.ended = event
                self.open = None
                yield attempt
            else:
                _note(attempt, event, stored)


def _note(attempt: AttemptTimes, event: AnyEvent, stored: datetime) -> None:
    match event:
        case RoundClosing(step=step):
            attempt.closings.append((stored, event))
            attempt.begin("finish", step, stored)
        case RoundReopened(step=step):
            attempt.reopenings.append((stored, event))
            attempt.begin("collect", step + 1, stored)
        case DeadlineMoved():
            attempt.deadline_moves.append(stored)
        case _:
            pass
