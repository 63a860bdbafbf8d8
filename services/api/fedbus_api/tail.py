"""The newest messages of a stream, read once and kept in this process; each look reads only what is new."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

from fedbus_runtime.paging import in_pages
from fedbus_runtime.ports import Clock, StoredMessage, Streams
from fedbus_schemas.codec import digest
from fedbus_schemas.ids import ProjectId, Sha256
from fedbus_schemas.streams import Stream

MESSAGES_AT_ONCE = 500

R = TypeVar("R")


@dataclass(slots=True)
class _Kept(Generic[R]):
    sequence: int = 0
    head: Sha256 = ""
    version: int = 0
    rows: dict[str | int, tuple[datetime, R, int]] = field(default_factory=dict)
    size: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Tail(Generic[R]):
    """What the newest messages of a project's subject say, the oldest first, `kept_max` at most.

    With `bytes_max` also no more than so many bytes of messages. Where the stream keeps one message a
    subject, a newer one replaces the older.
    """

    def __init__(
        self,
        streams: Streams,
        clock: Clock,
        stream: Stream,
        *,
        subject: Callable[[ProjectId], str],
        parse: Callable[[StoredMessage], R | None],
        kept_max: int,
        bytes_max: int | None = None,
    ) -> None:
        self._streams = streams
        self._clock = clock
        self._stream = stream
        self._subject = subject
        self._parse = parse
        self._kept_max = kept_max
        self._bytes_max = bytes_max
        self._projects: dict[ProjectId, _Kept[R]] = {}

    async def rows(self, project: ProjectId) -> list[R]:
        """Give what is there now, the oldest first; what can no longer be in the stream is left out."""
        kept = self._projects.setdefault(project, _Kept())
        async with kept.lock:
            await self._catch_up(project, kept)
            self._forget(kept)
            return [row for _, row, _ in kept.rows.values()]

    def version(self, project: ProjectId) -> int:
        """Give a number that grows with every change of the rows."""
        kept = self._projects.get(project)
        return kept.version if kept is not None else 0

    async def _catch_up(self, project: ProjectId, kept: _Kept[R]) -> None:
        subject = self._subject(project)
        newest = await self._streams.last(self._stream, subject)
        if newest is None:
            kept.version += bool(kept.rows)
            kept.rows.clear()
            kept.sequence = kept.size = 0
            return
        mark = (newest.sequence, digest(newest.data))
        if mark == (kept.sequence, kept.head):
            return
        if newest.sequence <= kept.sequence:  # the stream is of another life
            kept.rows.clear()
            kept.sequence = kept.size = 0
        after = max(kept.sequence, newest.sequence - self._kept_max)
        last = newest
        async for message in in_pages(
            self._streams, self._stream, subject, at_once=MESSAGES_AT_ONCE, after=after
        ):
            self._take(kept, message)
            self._forget(kept)
            last = message
        kept.sequence, kept.head = last.sequence, digest(last.data)

    def _take(self, kept: _Kept[R], message: StoredMessage) -> None:
        key = message.subject if self._stream.one_per_subject is not None else message.sequence
        self._drop(kept, key)
        kept.version += 1
        row = self._parse(message)
        if row is not None:
            kept.rows[key] = (message.time, row, len(message.data))
            kept.size += len(message.data)

    def _forget(self, kept: _Kept[R]) -> None:
        oldest = None if self._stream.age_max is None else self._clock.now() - self._stream.age_max
        while kept.rows:
            key, (time, _, _) = next(iter(kept.rows.items()))
            aged = oldest is not None and time < oldest
            heavy = self._bytes_max is not None and kept.size > self._bytes_max
            if not aged and not heavy and len(kept.rows) <= self._kept_max:
                return
            self._drop(kept, key)
            kept.version += 1

    @staticmethod
    def _drop(kept: _Kept[R], key: str | int) -> None:
        dropped = kept.rows.pop(key, None)
        if dropped is not None:
            kept.size -= dropped[2]
