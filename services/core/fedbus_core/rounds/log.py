"""Entries of the log: sealing a decision into bytes, and folding stored bytes into a state.

The chain is over the stored bytes: `previous` of an entry is the SHA-256 of the entry before it as it
lies in the stream.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime

from fedbus_schemas.codec import Unreadable, digest, read, read_events
from fedbus_schemas.envelope import GENESIS, CloudEvent, Entry
from fedbus_schemas.events import AnyEvent, RoundOpened, SessionStarted
from fedbus_schemas.ids import InstanceName

from fedbus_core.rounds.evolve import begin, evolve
from fedbus_core.rounds.state import Session


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
        events=tuple(
            CloudEvent(
                id=f"{session}/{number}/{index}",
                source=f"/projects/{project}/controller",
                type=event.TYPE,
                subject=session,
                time=now,
                traceparent=trace,
                data=event.model_dump(mode="json", exclude_none=True, by_alias=True),
            )
            for index, (event, trace) in enumerate(_traced(state, events), start=1)
        ),
        by=by,
    )
    return entry.to_bytes()


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
    try:
        entry = read(Entry, data)
    except Unreadable as error:
        raise LogBroken(f"an entry cannot be read: {error}") from error
    return entry, read_events(entry)


def _traced(
    state: Session | None, events: Sequence[AnyEvent]
) -> Iterator[tuple[AnyEvent, str | None]]:
    """Pair each event with the trace of the round it belongs to."""
    opened = state.round if state else None
    trace = opened.opened.trace_id if opened else None
    for event in events:
        if isinstance(event, RoundOpened):
            trace = event.trace_id
        yield event, f"00-{trace}-{trace[:16]}-01" if trace else None
