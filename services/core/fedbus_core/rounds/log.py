"""Entries of the log: sealing a decision into bytes, and folding stored bytes into a state.

The chain is over the stored bytes: `previous` of an entry is the SHA-256 of the entry before it as it
lies in the stream.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import TypeVar

from fedbus_schemas.codec import Unreadable, digest, read, read_events
from fedbus_schemas.envelope import GENESIS, CloudEvent, Entry
from fedbus_schemas.events import AnyEvent, Event, RoundOpened, SessionStarted
from fedbus_schemas.ids import InstanceName
from fedbus_schemas.traces import root_span, traceparent
from fedbus_schemas.wire import Message

from fedbus_core.rounds.evolve import begin, evolve
from fedbus_core.rounds.state import Session

M = TypeVar("M", bound=Message)


class LogBroken(ValueError):
    """The stored log is not the chain it must be. Nothing may be decided on it."""


def seal(
    state: Session | None,
    project: str,
    session: str,
    events: Sequence[AnyEvent],
    cause: str,
    now: datetime,
    by: InstanceName | None = None,
) -> bytes:
    """Make the bytes of the entry that records this decision on top of `state`; `by` is who decided."""
    number = state.number + 1 if state else 1
    entry = Entry(
        project=project,
        session=session,
        number=number,
        previous=state.head if state else GENESIS,
        cause=cause,
        events=cloud_events(project, session, number, _traced(state, events), now),
        by=by,
    )
    return entry.to_bytes()


def cloud_events(
    project: str,
    name: str,
    number: int,
    traced: Iterable[tuple[Event, str | None]],
    now: datetime,
) -> tuple[CloudEvent, ...]:
    """Wrap the events of entry `number` in the log of a session or a command `name`, each with its trace."""
    return tuple(
        CloudEvent(
            id=f"{name}/{number}/{index}",
            source=f"/projects/{project}/controller",
            type=event.TYPE,
            subject=name,
            time=now,
            traceparent=traceparent(trace, root_span(trace)) if trace else None,
            data=event.model_dump(mode="json", exclude_none=True, by_alias=True),
        )
        for index, (event, trace) in enumerate(traced, start=1)
    )


def fold(state: Session | None, data: bytes, sequence: int) -> Session:
    """Step a state by one stored entry. Raises `LogBroken`, or `UnknownEvent` from a newer version."""
    entry, events = read_entry(data)
    number, head = (state.number, state.head) if state else (0, GENESIS)
    if entry.number != number + 1:
        raise LogBroken(f"session {entry.session}: entry {entry.number} follows entry {number}")
    if entry.previous != head:
        raise LogBroken(
            f"session {entry.session}: entry {entry.number} does not continue the chain"
        )
    rest = events
    if state is None:
        first, rest = events[0], events[1:]
        if not isinstance(first, SessionStarted):
            raise LogBroken(f"session {entry.session}: the log does not begin with its start")
        state = begin(first)
    state.number = entry.number
    state.head = digest(data)
    state.sequence = sequence
    for event in rest:
        evolve(state, event)
    state.causes.append(entry.cause)
    state.check()
    return state


def read_entry(data: bytes) -> tuple[Entry, tuple[AnyEvent, ...]]:
    """Read an entry and its events. Raises `LogBroken` when it cannot be read, `UnknownEvent`."""
    entry = read_as(Entry, data)
    return entry, read_events(entry)


def read_as(kind: type[M], data: bytes) -> M:
    """Read an entry of this kind without its events. Raises `LogBroken` when it cannot be read."""
    try:
        return read(kind, data)
    except Unreadable as error:
        raise LogBroken(f"an entry cannot be read: {error}") from error


def _traced(
    state: Session | None, events: Sequence[AnyEvent]
) -> Iterator[tuple[AnyEvent, str | None]]:
    """Pair each event with the trace of the round it belongs to."""
    opened = state.round if state else None
    trace = opened.opened.trace_id if opened else None
    for event in events:
        if isinstance(event, RoundOpened):
            trace = event.trace_id
        yield event, trace
