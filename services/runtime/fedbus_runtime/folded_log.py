"""States of sessions and of commands, folded from their logs and cached by sequence.

The cache is only ever the *expected* value of a compare-and-set: an append on a stale state is refused
by the bus, the cache is dropped, and the log is read again.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from fedbus_schemas import subjects
from fedbus_schemas.ids import ProjectId, SessionId
from fedbus_schemas.streams import EVENTS, Stream

from fedbus_runtime.errors import Conflict
from fedbus_runtime.joined import Joined
from fedbus_runtime.ports import Streams

SESSIONS_MAX = 1_000
"""States kept in memory; the least recently used one goes first."""
READ_LIMIT = 1_000
"""Entries read at once."""


class Folded(Protocol):
    """A state that knows the stream sequence of the last entry in it."""

    sequence: int


S = TypeVar("S", bound=Folded)


@dataclass(slots=True)
class _Slot(Generic[S]):
    state: S | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    reading: Joined[S | None] = field(default_factory=Joined)


class FoldedLog(Generic[S]):
    """The states of all sessions. One task at a time works on a session; sessions go in parallel."""

    def __init__(
        self,
        streams: Streams,
        fold: Callable[[S | None, bytes, int], S],
        stream: Stream = EVENTS,
        subject: Callable[[ProjectId, str], str] = subjects.event,
    ) -> None:
        """`fold` steps a state in place by an entry's bytes and its sequence. `subject` names a log."""
        self._streams = streams
        self._fold = fold
        self._stream = stream
        self._subject = subject
        self._slots: OrderedDict[tuple[ProjectId, SessionId], _Slot[S]] = OrderedDict()

    async def newest(self, project: ProjectId, session: SessionId) -> S | None:
        """Fold what has been appended since the last call; None = there is no such session.

        Who waits for its turn shares the next reading. Raises what `fold` raises and `BusAway`.
        """
        slot = self._slot(project, session)

        async def read() -> S | None:
            async with slot.lock:
                return await self._catch_up(slot, project, session)

        return await slot.reading.call(read)

    def cached(self, project: ProjectId, session: SessionId) -> S | None:
        """Give the state as it was last folded, without asking the log."""
        slot = self._slots.get((project, session))
        return slot.state if slot else None

    async def append(self, project: ProjectId, session: SessionId, data: bytes, expected: int) -> S:
        """Append an entry made on the state at sequence `expected` (0 = none), and fold it.

        Raises `Conflict` when somebody else appended first; the next `newest` reads it.
        """
        slot = self._slot(project, session)
        async with slot.lock:
            subject = self._subject(project, session)
            try:
                sequence = await self._streams.append(subject, data, expected=expected)
            except Conflict:
                slot.state = None
                raise
            if slot.state is not None and slot.state.sequence != expected:
                slot.state = None
                state = await self._catch_up(slot, project, session)
                assert state is not None, "the entry was just appended"
                return state
            slot.state = self._fold(slot.state, data, sequence)
            return slot.state

    async def _catch_up(self, slot: _Slot[S], project: ProjectId, session: SessionId) -> S | None:
        subject = self._subject(project, session)
        while True:
            after = slot.state.sequence if slot.state else 0
            entries = await self._streams.read(self._stream, subject, after=after, limit=READ_LIMIT)
            state, slot.state = slot.state, None  # a fold that fails leaves no half-stepped state
            for entry in entries:
                state = self._fold(state, entry.data, entry.sequence)
            slot.state = state
            if len(entries) < READ_LIMIT:
                return state

    def _slot(self, project: ProjectId, session: SessionId) -> _Slot[S]:
        key = (project, session)
        slot = self._slots.setdefault(key, _Slot())
        self._slots.move_to_end(key)
        if len(self._slots) > SESSIONS_MAX:
            oldest, old = next(iter(self._slots.items()))
            if not old.lock.locked():
                del self._slots[oldest]
        return slot
