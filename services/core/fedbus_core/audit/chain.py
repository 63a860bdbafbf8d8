"""Walks over a session's log: the chain over the stored bytes, and the state that the events make.

A break is reported and the walk goes on by the hashes alone: the state is not judged after it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from fedbus_schemas.codec import UnknownEvent, Unreadable, digest
from fedbus_schemas.envelope import GENESIS, Entry
from fedbus_schemas.events import (
    AnyEvent,
    RoundCompleted,
    RoundFailed,
    RoundOpened,
    RoundPruned,
    RoundReopened,
    SessionArchived,
    SessionFailed,
    SessionStarted,
    SessionStopped,
)

from fedbus_core.audit.findings import Code
from fedbus_core.audit.legality import problems
from fedbus_core.rounds.evolve import begin, evolve
from fedbus_core.rounds.log import LogBroken, read_entry
from fedbus_core.rounds.state import Session

SIGNED = (RoundCompleted, RoundFailed, SessionStopped, SessionFailed, SessionArchived)
"""Events after which a controller signs the chain's head."""

Problem: TypeAlias = tuple[Code, str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a closing of an attempt came to, with the opening and the cut-off it came from."""

    number: int
    event: RoundCompleted | RoundFailed | RoundReopened
    opened: RoundOpened
    cutoff: int

    @property
    def attempt(self) -> tuple[int, int]:
        """Round and attempt."""
        return self.event.round, self.event.attempt


@dataclass(slots=True)
class Step:
    """One entry of the log: its digest, what is wrong with it, what it ended, what it opened."""

    number: int
    digest: str
    problems: list[Problem] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    opened: list[RoundOpened] = field(default_factory=list)
    started: SessionStarted | None = None
    signed: bool = False


class Walk:
    """Takes the entries of one session in order. `state` is None before the first good one."""

    def __init__(self, project: str, session: str) -> None:
        self.state: Session | None = None
        self.halted = False
        """Set at the first entry whose events cannot be folded; the state stays as it was before."""
        self._project = project
        self._session = session
        self._head = GENESIS

    def take(self, number: int, data: bytes) -> Step:
        """Take the entry that is stored at this place."""
        step = Step(number, digest(data))
        try:
            entry, events = read_entry(data)
        except UnknownEvent as error:
            self._halt(step, Code.EVENT_UNKNOWN, str(error))
        except (LogBroken, Unreadable) as error:
            self._halt(step, Code.ENTRY_UNREADABLE, str(error))
        else:
            step.problems += self._chain(number, entry)
            step.problems += [(Code.ILLEGAL, text) for text in _envelope(entry)]
            step.signed = any(isinstance(event, SIGNED) for event in events)
            if not self.halted:
                self._fold(step, entry, events)
        self._head = step.digest
        return step

    def gap(self) -> None:
        """Pass over an entry that is not there; the next one will not continue the chain."""
        self.halted = True

    def _chain(self, number: int, entry: Entry) -> Iterator[Problem]:
        if entry.number != number:
            yield Code.CHAIN, f"it says it is entry {entry.number} and stands in place {number}"
        if entry.previous != self._head:
            yield (
                Code.CHAIN,
                f"it continues {entry.previous[:16]}…, the entry before it is {self._head[:16]}…",
            )
        if (entry.project, entry.session) != (self._project, self._session):
            yield Code.CHAIN, f"it belongs to session {entry.project}/{entry.session}"

    def _fold(self, step: Step, entry: Entry, events: tuple[AnyEvent, ...]) -> None:
        if self.state is not None and entry.cause in self.state.causes:
            step.problems.append((Code.ILLEGAL, f"input {entry.cause!r} was decided before"))
        rest = events
        if self.state is None:
            first, rest = events[0], events[1:]
            if not isinstance(first, SessionStarted):
                self._halt(step, Code.ILLEGAL, "the log does not begin with its start")
                return
            if (first.project, first.session) != (self._project, self._session):
                step.problems.append((Code.ILLEGAL, "it starts another session"))
            self.state = begin(first)
            step.started = first
        state = self.state
        state.number, state.head, state.sequence = step.number, step.digest, step.number
        for event in rest:
            step.problems += [(Code.ILLEGAL, f"{event.TYPE}: {p}") for p in problems(state, event)]
            self._note(step, state, event)
            try:
                evolve(state, event)
            except AssertionError as error:
                self._halt(step, Code.ILLEGAL, f"{event.TYPE} does not fold: {error}")
                return
        state.causes.append(entry.cause)
        try:
            state.check()
        except AssertionError as error:
            self._halt(step, Code.ILLEGAL, f"the state after it cannot be: {error}")

    def _note(self, step: Step, state: Session, event: AnyEvent) -> None:
        match event:
            case RoundOpened():
                step.opened.append(event)
            case RoundCompleted() | RoundFailed() | RoundReopened():
                if state.round is not None:
                    cutoff = state.round.cutoff
                    step.outcomes.append(Outcome(step.number, event, state.round.opened, cutoff))
            case _:
                pass

    def _halt(self, step: Step, code: Code, detail: str) -> None:
        step.problems.append((code, detail))
        self.halted = True


def _envelope(entry: Entry) -> Iterator[str]:
    for index, event in enumerate(entry.events, start=1):
        name = f"{entry.session}/{entry.number}/{index}"
        if (event.id, event.subject) != (name, entry.session):
            yield f"event {index} calls itself {event.id} of {event.subject}, not {name}"


@dataclass(frozen=True, slots=True)
class Pruned:
    """What the log says of deleted updates: of these attempts, or of all."""

    attempts: frozenset[tuple[int, int]] = frozenset()
    everything: bool = False

    def has(self, attempt: tuple[int, int]) -> bool:
        """Whether the updates of an attempt were deleted by rule."""
        return self.everything or attempt in self.attempts


def pruned(entries: Iterable[bytes]) -> Pruned:
    """Look through a whole log: an archiving comes long after the rounds whose updates it deletes."""
    attempts: set[tuple[int, int]] = set()
    everything = False
    for data in entries:
        try:
            _, events = read_entry(data)
        except (UnknownEvent, LogBroken, Unreadable):
            continue  # reported where the log is walked
        attempts |= {
            (event.round, event.attempt) for event in events if isinstance(event, RoundPruned)
        }
        everything |= any(isinstance(event, SessionArchived) for event in events)
    return Pruned(frozenset(attempts), everything)
