"""Redis in memory: the live round state, presence and documents, with flush and restore."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from fedbus_schemas.ids import ClientId, ProjectId, SessionId
from fedbus_schemas.work import PartialRecord

from fedbus_runtime.errors import RecordsAway
from fedbus_runtime.ports import LiveRound, RoundKey, Tally, TransferLimits

_MILLISECOND = timedelta(milliseconds=1)


@dataclass(slots=True)
class _Attempt:
    stored: dict[ClientId, int] = field(default_factory=dict)
    fresh: list[ClientId] = field(default_factory=list)
    partials: dict[str, PartialRecord] = field(default_factory=dict)


@dataclass(slots=True)
class _Places:
    taken: dict[str, tuple[int, datetime]] = field(default_factory=dict)
    waiting: dict[str, datetime] = field(default_factory=dict)

    def drop_old(self, now: datetime) -> None:
        self.taken = {name: place for name, place in self.taken.items() if place[1] > now}
        self.waiting = {name: until for name, until in self.waiting.items() if until > now}


@dataclass(slots=True)
class _Content:
    rounds: dict[tuple[ProjectId, SessionId], LiveRound] = field(default_factory=dict)
    attempts: dict[RoundKey, _Attempt] = field(default_factory=dict)
    online: dict[ProjectId, dict[ClientId, datetime]] = field(default_factory=dict)
    online_since: dict[ProjectId, datetime] = field(default_factory=dict)
    transfers: dict[ProjectId, _Places] = field(default_factory=dict)
    documents: dict[tuple[ProjectId, str, str], tuple[int, bytes]] = field(default_factory=dict)


class MemoryRedis:
    """The server that all memory records of one simulation share. `away` makes every call raise."""

    def __init__(self) -> None:
        self.away = False
        self.content = _Content()
        self.epoch = 1

    def demand(self) -> _Content:
        """Give the content, or raise `RecordsAway`."""
        if self.away:
            raise RecordsAway("the memory records are away")
        return self.content

    def flush(self) -> None:
        """Forget everything, as FLUSHALL does."""
        self.content = _Content()

    def snapshot(self) -> object:
        """Copy the content."""
        return copy.deepcopy(self.content)

    def restore(self, copied: object) -> None:
        """Start again on a copy, however old."""
        assert isinstance(copied, _Content)
        self.content = copy.deepcopy(copied)
        self.epoch += 1


class MemoryRoundRecords:
    """`ports.RoundRecords` in memory."""

    def __init__(self, redis: MemoryRedis) -> None:
        self._redis = redis

    async def put_round(self, state: LiveRound) -> None:
        """Keep a session's newest state; see `ports.RoundRecords`."""
        rounds = self._redis.demand().rounds
        had = rounds.get((state.project, state.session))
        if had is None or had.number <= state.number:
            rounds[state.project, state.session] = state

    async def get_round(self, project: ProjectId, session: SessionId) -> LiveRound | None:
        """Give a session's state; see `ports.RoundRecords`."""
        return self._redis.demand().rounds.get((project, session))

    async def count(self, key: RoundKey, updates: Mapping[ClientId, int], batch_size: int) -> Tally:
        """Add stored updates; see `ports.RoundRecords`."""
        attempt = self._redis.demand().attempts.setdefault(key, _Attempt())
        for client, sequence in updates.items():
            if client not in attempt.stored:
                attempt.stored[client] = sequence
                attempt.fresh.append(client)
        batches = []
        while 0 < batch_size <= len(attempt.fresh):
            batches.append(tuple(attempt.fresh[:batch_size]))
            del attempt.fresh[:batch_size]
        return Tally(len(attempt.stored), tuple(batches))

    async def counted(self, key: RoundKey) -> dict[ClientId, int]:
        """Give what is counted; see `ports.RoundRecords`."""
        attempt = self._redis.demand().attempts.get(key)
        return dict(attempt.stored) if attempt is not None else {}

    async def put_partial(self, key: RoundKey, partial: PartialRecord) -> None:
        """Remember a partial; see `ports.RoundRecords`."""
        attempt = self._redis.demand().attempts.setdefault(key, _Attempt())
        attempt.partials[partial.blob.digest] = partial

    async def partials(self, key: RoundKey) -> list[PartialRecord]:
        """Give the partials by digest; see `ports.RoundRecords`."""
        attempt = self._redis.demand().attempts.get(key)
        if attempt is None:
            return []
        return [attempt.partials[digest] for digest in sorted(attempt.partials)]

    async def forget(self, key: RoundKey) -> None:
        """Drop an attempt; see `ports.RoundRecords`."""
        self._redis.demand().attempts.pop(key, None)

    def epoch(self) -> str:
        """Name the server's memory; see `ports.RoundRecords`."""
        return str(self._redis.epoch)


class MemoryPresence:
    """`ports.Presence` in memory."""

    def __init__(self, redis: MemoryRedis) -> None:
        self._redis = redis

    async def seen(self, project: ProjectId, clients: Sequence[ClientId], at: datetime) -> None:
        """Keep heartbeats; see `ports.Presence`."""
        online = self._redis.demand().online.setdefault(project, {})
        at = at.replace(microsecond=at.microsecond // 1000 * 1000)
        self._redis.demand().online_since.setdefault(project, at)
        for client in clients:
            online[client] = max(at, online.get(client, at))

    async def gone(self, project: ProjectId, clients: Sequence[ClientId], heard: datetime) -> None:
        """Turn time back for clients that left; see `ports.Presence`."""
        online = self._redis.demand().online.setdefault(project, {})
        online.update(dict.fromkeys(clients, heard))

    async def online(self, project: ProjectId, since: datetime) -> dict[ClientId, datetime] | None:
        """Give who was heard; see `ports.Presence`."""
        content = self._redis.demand()
        if project not in content.online_since:
            return None
        online = content.online[project]
        return {client: at for client, at in online.items() if at > since - _MILLISECOND}

    async def known_since(self, project: ProjectId) -> datetime | None:
        """Give the age of the marker; see `ports.Presence`."""
        return self._redis.demand().online_since.get(project)


class MemoryTransfers:
    """`ports.Transfers` in memory."""

    def __init__(self, redis: MemoryRedis) -> None:
        self._redis = redis

    async def take(
        self, project: ProjectId, name: str, size: int, limits: TransferLimits, now: datetime
    ) -> int:
        """Take a place; see `ports.Transfers`."""
        places = self._redis.demand().transfers.setdefault(project, _Places())
        places.drop_old(now)
        under_way = sum(each for each, _ in places.taken.values())
        fits = len(places.taken) < limits.transfers and under_way + size <= limits.bytes
        if name in places.taken or not places.taken or fits:
            places.taken[name] = (size, now + limits.lease)
            places.waiting.pop(name, None)
            return 0
        places.waiting[name] = now + limits.lease
        return len(places.waiting)

    async def release(self, project: ProjectId, name: str) -> None:
        """Give a place back; see `ports.Transfers`."""
        places = self._redis.demand().transfers.get(project)
        if places is not None:
            places.taken.pop(name, None)
            places.waiting.pop(name, None)


class MemoryDocuments:
    """`ports.Documents` in memory."""

    def __init__(self, redis: MemoryRedis) -> None:
        self._redis = redis

    async def put(self, project: ProjectId, kind: str, name: str, number: int, data: bytes) -> None:
        """Keep the newest; see `ports.Documents`."""
        documents = self._redis.demand().documents
        had = documents.get((project, kind, name))
        if had is None or had[0] <= number:
            documents[project, kind, name] = (number, data)

    async def get(self, project: ProjectId, kind: str, name: str) -> tuple[int, bytes] | None:
        """Give a document; see `ports.Documents`."""
        return self._redis.demand().documents.get((project, kind, name))
