"""The bus's streams in memory: what a `MemoryServer` stores, with the rules of NATS JetStream.

Compare-and-set, one message per subject, work queues, lifetimes of messages, schedules and republished feeds
follow the real server; `tests/contract` runs the same tests over both. Schedules and lifetimes are
looked at whenever somebody asks, and whoever waits knows when the next one is due.
"""

import asyncio
import bisect
import heapq
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from fedbus_schemas.streams import Retention, Stream

from fedbus_runtime.errors import AlreadyStored, BusAway, BusRefused, Conflict
from fedbus_runtime.ports import Clock, StoredMessage

DUPLICATE_WINDOW = timedelta(minutes=2)
MESSAGE_ID = "Nats-Msg-Id"
SUBJECTS_PER_ASK_MAX = 1024


@dataclass(slots=True)
class MemoryStream:
    """One stream: its messages by sequence, and each subject's sequences in order."""

    stream: Stream
    messages: dict[int, StoredMessage] = field(default_factory=dict)
    sequences: dict[str, list[int]] = field(default_factory=dict)
    last_sequence: int = 0
    ids: dict[str, tuple[int, datetime]] = field(default_factory=dict)
    expiries: list[tuple[datetime, int]] = field(default_factory=list)

    def matching(self, pattern: str) -> list[str]:
        """Give the subjects that match."""
        if "*" not in pattern and ">" not in pattern:
            return [pattern] if pattern in self.sequences else []
        return [subject for subject in self.sequences if matches(pattern, subject)]

    def newest(self, subject: str, up_to: int | None = None) -> int:
        """Give a subject's last sequence that is not above `up_to`, 0 when there is none."""
        kept = self.sequences.get(subject, [])
        place = len(kept) if up_to is None else bisect.bisect_right(kept, up_to)
        return kept[place - 1] if place else 0

    def add(self, message: StoredMessage) -> None:
        """Keep a message under the sequence it was given."""
        self.last_sequence = message.sequence
        self.messages[message.sequence] = message
        self.sequences.setdefault(message.subject, []).append(message.sequence)

    def drop(self, sequence: int) -> None:
        """Let go of a message; one that is gone already is no error."""
        message = self.messages.pop(sequence, None)
        if message is None:
            return
        kept = self.sequences[message.subject]
        kept.remove(sequence)
        if not kept:
            del self.sequences[message.subject]


@dataclass(frozen=True, slots=True)
class _Schedule:
    stream: MemoryStream
    sequence: int
    target: str
    data: bytes


class MemoryServer:
    """The server that all memory buses of one simulation share.

    `away` makes every call raise `BusAway`. `restart` loses what lies in memory streams.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._away = False
        self._back = asyncio.Event()
        self.streams: dict[str, MemoryStream] = {}
        self.watchers: list[Callable[[], None]] = []
        self.feeds: list[tuple[str, Callable[[StoredMessage], None]]] = []
        self._numbers = itertools.count()
        self._schedules: list[tuple[datetime, int, _Schedule]] = []

    @property
    def away(self) -> bool:
        """Whether nobody reaches the server; setting it to False brings it back."""
        return self._away

    @away.setter
    def away(self, away: bool) -> None:
        was_away, self._away = self._away, away
        if was_away and not away:
            self._tell_return()

    async def returned(self) -> None:
        """Return when the server was away, or started anew, and is back."""
        await self._back.wait()

    def demand(self) -> None:
        """Raise `BusAway` while the server is away; let what is due happen."""
        if self.away:
            raise BusAway("the memory bus is away")
        self._catch_up()

    def prepare(self, stream: Stream) -> None:
        """Create a stream, or give an existing one these settings."""
        kept = self.streams.get(stream.name)
        if kept is None:
            self.streams[stream.name] = MemoryStream(stream)
        else:
            kept.stream = stream

    def of(self, stream: Stream) -> MemoryStream:
        """Give a stream's messages. Raises `BusAway` when nobody prepared it."""
        kept = self.streams.get(stream.name)
        if kept is None:
            raise BusAway(f"there is no stream {stream.name}")
        return kept

    def taking(self, subject: str) -> MemoryStream:
        """Give the stream that stores a subject."""
        for kept in self.streams.values():
            if any(matches(pattern, subject) for pattern in kept.stream.subjects):
                return kept
        raise BusAway(f"no stream takes {subject} just now")

    def restart(self) -> None:
        """Start anew: memory streams are empty, files are kept."""
        for kept in self.streams.values():
            if kept.stream.memory:
                self.streams[kept.stream.name] = MemoryStream(kept.stream)
        self._tell_return()

    def store(
        self, kept: MemoryStream, subject: str, data: bytes, headers: Mapping[str, str]
    ) -> StoredMessage:
        """Store a message that no rule refuses, and tell everybody."""
        if kept.stream.one_per_subject == "last":
            kept.drop(kept.newest(subject))
        message = StoredMessage(
            subject, kept.last_sequence + 1, data, self.clock.now(), dict(headers)
        )
        kept.add(message)
        most = kept.stream.per_subject_max
        if most is not None and len(kept.sequences[subject]) > most:
            kept.drop(kept.sequences[subject][0])
        if kept.stream.age_max is not None:
            heapq.heappush(kept.expiries, (message.time + kept.stream.age_max, message.sequence))
        self._republish(kept.stream, message)
        for watcher in list(self.watchers):
            watcher()
        return message

    def add_schedule(
        self, kept: MemoryStream, sequence: int, target: str, data: bytes, at: datetime
    ) -> None:
        """Remember when a stored schedule is due."""
        schedule = _Schedule(kept, sequence, target, data)
        heapq.heappush(self._schedules, (at, next(self._numbers), schedule))

    def next_due(self) -> datetime | None:
        """Give when the next schedule is due."""
        return self._schedules[0][0] if self._schedules else None

    def _tell_return(self) -> None:
        back, self._back = self._back, asyncio.Event()
        back.set()

    def _catch_up(self) -> None:
        now = self.clock.now()
        for kept in self.streams.values():
            while kept.expiries and kept.expiries[0][0] <= now:
                kept.drop(heapq.heappop(kept.expiries)[1])
        while self._schedules and self._schedules[0][0] <= now:
            _, _, due = heapq.heappop(self._schedules)
            if due.sequence in due.stream.messages:  # neither replaced nor cancelled
                due.stream.drop(due.sequence)
                self.store(due.stream, due.target, due.data, {})

    def _republish(self, stream: Stream, message: StoredMessage) -> None:
        if stream.republish is None:
            return
        source, destination = stream.republish
        if matches(source, message.subject):
            live = transform(source, destination, message.subject)
            for pattern, feed in list(self.feeds):
                if matches(pattern, live):
                    feed(message)


class MemoryStreams:
    """`ports.Streams` on a memory server."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server

    async def append(
        self,
        subject: str,
        data: bytes,
        *,
        expected: int | None = None,
        message_id: str | None = None,
        ttl_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> int:
        """Store a message; see `ports.Streams`."""
        self._server.demand()
        kept = self._server.taking(subject)
        now = self._server.clock.now()
        if len(data) > kept.stream.message_bytes_max:
            raise BusRefused(f"{subject}: message size exceeds maximum allowed")
        if expected is not None and kept.newest(subject) != expected:
            raise Conflict(f"{subject}: wrong last sequence: {kept.newest(subject)}")
        if message_id in kept.ids:
            sequence, at = kept.ids[message_id]
            if now - at < DUPLICATE_WINDOW:
                return sequence
        if kept.stream.one_per_subject == "first" and kept.newest(subject):
            raise AlreadyStored(subject)
        sent = dict(headers or {})
        if message_id is not None:
            sent[MESSAGE_ID] = message_id
        message = self._server.store(kept, subject, data, sent)
        if message_id is not None:
            kept.ids[message_id] = (message.sequence, now)
        if ttl_s is not None:
            heapq.heappush(kept.expiries, (now + timedelta(seconds=ttl_s), message.sequence))
        return message.sequence

    async def schedule(self, subject: str, target: str, data: bytes, at: datetime) -> None:
        """Store a message later; see `ports.Streams`."""
        self._server.demand()
        kept = self._server.taking(subject)
        kept.drop(kept.newest(subject))
        stored = self._server.store(kept, subject, data, {})
        self._server.add_schedule(kept, stored.sequence, target, data, at)
        for watcher in list(self._server.watchers):
            watcher()

    async def cancel(self, stream: Stream, subject: str) -> None:
        """Purge a subject; see `ports.Streams`."""
        self._server.demand()
        if stream.protected and not stream.pruned:
            raise BusRefused("stream purge not permitted")
        kept = self._server.of(stream)
        for name in kept.matching(subject):
            for sequence in list(kept.sequences[name]):
                kept.drop(sequence)

    async def delete(self, stream: Stream, sequence: int) -> None:
        """Delete one message; see `ports.Streams`."""
        self._server.demand()
        if stream.protected:
            raise BusRefused("message delete not permitted")
        self._server.of(stream).drop(sequence)

    async def last(self, stream: Stream, subject: str) -> StoredMessage | None:
        """Give the newest message; see `ports.Streams`."""
        self._server.demand()
        kept = self._server.of(stream)
        sequence = max((kept.newest(name) for name in kept.matching(subject)), default=0)
        return kept.messages.get(sequence)

    async def read(
        self, stream: Stream, subject: str, *, after: int = 0, limit: int = 10_000
    ) -> list[StoredMessage]:
        """Give a subject's messages in order; see `ports.Streams`."""
        self._server.demand()
        kept = self._server.of(stream)
        found: list[int] = []
        for name in kept.matching(subject):
            place = bisect.bisect_right(kept.sequences[name], after)
            found += kept.sequences[name][place : place + limit]
        return [kept.messages[sequence] for sequence in sorted(found)[:limit]]

    async def latest(
        self, stream: Stream, subjects: Sequence[str], *, up_to: int | None = None
    ) -> list[StoredMessage]:
        """Give the newest of every subject; see `ports.Streams`."""
        self._server.demand()
        kept = self._server.of(stream)
        found: set[int] = set()
        for pattern in subjects:
            names = kept.matching(pattern)
            if len(names) > SUBJECTS_PER_ASK_MAX and stream.one_per_subject is None:
                raise BusRefused(f"{pattern}: too many results")
            found |= {kept.newest(name, up_to) for name in names}
        return [kept.messages[sequence] for sequence in sorted(found) if sequence]

    async def subjects(self, stream: Stream, subject: str) -> dict[str, int]:
        """List subjects; see `ports.Streams`."""
        self._server.demand()
        kept = self._server.of(stream)
        return {name: len(kept.sequences[name]) for name in kept.matching(subject)}


def forget_acked(kept: MemoryStream, sequence: int) -> None:
    """Let a work queue go of a message that was settled."""
    if kept.stream.retention is Retention.WORK_QUEUE:
        kept.drop(sequence)


def matches(pattern: str, subject: str) -> bool:
    """Say whether a subject fits a pattern with `*` (one token) and `>` (the rest, at least one)."""
    wanted, given = pattern.split("."), subject.split(".")
    for place, part in enumerate(wanted):
        if part == ">":
            return len(given) > place
        if place >= len(given) or part not in ("*", given[place]):
            return False
    return len(wanted) == len(given)


def transform(source: str, destination: str, subject: str) -> str:
    """Rewrite a subject: `{{wildcard(n)}}` is what the n-th `*` stood for, `>` is the rest."""
    wanted, given = source.split("."), subject.split(".")
    stars = [given[place] for place, part in enumerate(wanted) if part == "*"]
    rest = given[len(wanted) - 1 :] if wanted[-1] == ">" else []
    for number, part in enumerate(stars, 1):
        destination = destination.replace(f"{{{{wildcard({number})}}}}", part)
    return destination.removesuffix(">") + ".".join(rest) if rest else destination
