"""The live round state, presence and the api's documents in Redis (any server that speaks RESP).

Keys, each after `fl:<project>:`, with `<attempt>` for `<session>:<round>:<attempt>`:

| key | type | holds | written by | lives |
| --- | --- | --- | --- | --- |
| `round:<session>` | hash | `number`, `state` (JSON) | `put_round`, newer number wins | 7 days |
| `stored:<attempt>` | hash | client → sequence | `count`, the first one stays | 2 days |
| `fresh:<attempt>` | list | clients in no batch yet | `count` | 2 days |
| `partials:<attempt>` | hash | blob digest → record (JSON) | `put_partial` | 2 days |
| `online` | sorted set | client, scored by milliseconds | `seen`, only forward; `gone` | 1 day |
| `online:known` | string | the marker: heartbeats were kept since | `seen` | 1 day |
| `transfers` | sorted set | client and blob, scored by the lease's end in milliseconds | `take` | 1 hour |
| `transfers:bytes` | hash | client and blob → size | `take` | 1 hour |
| `transfers:waiting` | sorted set | who was turned away, scored as above | `take` | 1 hour |
| `doc:<kind>:<name>` | hash | `number`, `data` | `put`, newer number wins | 30 days |

The lifetimes start anew with each write and are only a net: `forget` drops what is over.

Nothing here is the truth. A flushed server answers "nothing known" (None, empty), and its caller rebuilds from
the streams. A stale copy is safe because every write is a union or goes forward only: counting all of
UPDATES again adds what the copy lacks, a newer state replaces an older one, and clients that a
stale copy calls absent are back with their next heartbeat. Places for transfers that are forgotten let more
transfers run at once for a moment. A batch that `count` handed out and whose fold
item got lost is folded by the finish item.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import structlog
from fedbus_schemas.codec import Unreadable, read
from fedbus_schemas.ids import ClientId, ProjectId, SessionId
from fedbus_schemas.work import PartialRecord
from redis.asyncio import BlockingConnectionPool, Connection, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError

from fedbus_runtime import redis_scripts as scripts
from fedbus_runtime.errors import RecordsAway
from fedbus_runtime.ports import LiveRound, RoundKey, Tally, TransferLimits

CONNECT_TIMEOUT_S = 1.0
ANSWER_TIMEOUT_S = 2.0
CONNECTIONS_MAX = 32
RETRIES = 1
HEALTH_CHECK_INTERVAL_S = 15
UPDATES_PER_CALL_MAX = 1000

ROUND_LIFETIME = timedelta(days=7)
ATTEMPT_LIFETIME = timedelta(days=2)
ONLINE_LIFETIME = timedelta(days=1)
TRANSFERS_LIFETIME = timedelta(hours=1)
DOCUMENT_LIFETIME = timedelta(days=30)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_log = structlog.get_logger(__name__)

Argument = str | bytes | int


class RedisConnection:
    """A bounded pool of connections; every fault of the server is `RecordsAway`."""

    def __init__(self, url: str, password: str | None = None) -> None:
        self.epoch = ""
        # Every command is idempotent or loses no more than a hint, so one retry is always allowed.
        retry = Retry(ExponentialBackoff(cap=0.1, base=0.02), RETRIES)
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS_MAX,
            timeout=ANSWER_TIMEOUT_S,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_timeout=ANSWER_TIMEOUT_S,
            health_check_interval=HEALTH_CHECK_INTERVAL_S,
            retry=retry,
            redis_connect_func=self._on_connect,
            **({} if password is None else {"password": password}),
        )
        self._redis = Redis.from_pool(pool)
        self.put_newer = self._redis.register_script(scripts.PUT_NEWER)
        self.count = self._redis.register_script(scripts.COUNT)
        self.seen = self._redis.register_script(scripts.SEEN)
        self.online = self._redis.register_script(scripts.ONLINE)
        self.take = self._redis.register_script(scripts.TAKE)
        self.release = self._redis.register_script(scripts.RELEASE)

    async def command(self, *arguments: Argument) -> object:
        """Run one command. Raises `RecordsAway`."""
        try:
            answer: object = await self._redis.execute_command(*arguments)  # type: ignore[no-untyped-call]  # untyped there
        except (RedisError, OSError) as error:
            raise RecordsAway(f"{arguments[0]!s}: {error}") from error
        return answer

    async def run(self, script: AsyncScript, keys: Sequence[str], *arguments: Argument) -> object:
        """Run a script by its digest; a server that forgot it is given it again. Raises `RecordsAway`."""
        try:
            answer: object = await script(keys=keys, args=arguments)
        except (RedisError, OSError) as error:
            raise RecordsAway(str(error)) from error
        return answer

    async def _on_connect(self, connection: Connection) -> None:
        """Learn who the server is: its run changes with every restart, and so with every restore."""
        await connection.on_connect()
        # Its own check of health would connect again, and so come here again.
        await connection.send_command("INFO", "server", check_health=False)
        answer: object = await connection.read_response()
        for line in _bytes(answer).decode().splitlines():
            name, _, run = line.partition(":")
            if name == "run_id":
                self.epoch = run

    async def ping(self) -> None:
        """Raise `RecordsAway` unless the server answers."""
        await self.command("PING")

    async def close(self) -> None:
        """Close all connections."""
        await self._redis.aclose()


class RedisRoundRecords:
    """`ports.RoundRecords` in Redis."""

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection

    async def put_round(self, state: LiveRound) -> None:
        """Keep a session's newest state; see `ports.RoundRecords`."""
        await self._connection.run(
            self._connection.put_newer,
            [_round(state.project, state.session)],
            *(state.number, "state", json.dumps(asdict(state)), _seconds(ROUND_LIFETIME)),
        )

    async def get_round(self, project: ProjectId, session: SessionId) -> LiveRound | None:
        """Give a session's state; see `ports.RoundRecords`."""
        text = await self._connection.command("HGET", _round(project, session), "state")
        if text is None:
            return None
        try:
            return LiveRound(**json.loads(_bytes(text)))
        except TypeError:  # another version's fields: as good as nothing, the caller rebuilds
            return None

    async def count(self, key: RoundKey, updates: Mapping[ClientId, int], batch_size: int) -> Tally:
        """Add stored updates in one call a thousand; see `ports.RoundRecords`."""
        pairs = list(updates.items())
        stored = 0
        batches: list[tuple[ClientId, ...]] = []
        for start in range(0, max(1, len(pairs)), UPDATES_PER_CALL_MAX):
            chunk = pairs[start : start + UPDATES_PER_CALL_MAX]
            arguments: list[Argument] = [batch_size, _seconds(ATTEMPT_LIFETIME)]
            arguments += [part for pair in chunk for part in pair]
            answer = _sequence(
                await self._connection.run(
                    self._connection.count,
                    [_attempt("stored", key), _attempt("fresh", key)],
                    *arguments,
                )
            )
            stored = _number(answer[0])
            batches += [
                tuple(_bytes(client).decode() for client in _sequence(batch))
                for batch in _sequence(answer[1])
            ]
        return Tally(stored, tuple(batches))

    async def counted(self, key: RoundKey) -> dict[ClientId, int]:
        """Give what is counted; see `ports.RoundRecords`."""
        fields = _fields(await self._connection.command("HGETALL", _attempt("stored", key)))
        return {client.decode(): int(sequence) for client, sequence in fields.items()}

    async def put_partial(self, key: RoundKey, partial: PartialRecord) -> None:
        """Remember a partial; see `ports.RoundRecords`."""
        name = _attempt("partials", key)
        await self._connection.command("HSET", name, partial.blob.digest, partial.to_bytes())
        await self._connection.command("EXPIRE", name, _seconds(ATTEMPT_LIFETIME))

    async def partials(self, key: RoundKey) -> list[PartialRecord]:
        """Give the partials by digest; see `ports.RoundRecords`."""
        fields = _fields(await self._connection.command("HGETALL", _attempt("partials", key)))
        found = []
        for digest in sorted(fields):
            try:
                found.append(read(PartialRecord, fields[digest]))
            except Unreadable as error:  # another version's; the finish item folds without it
                _log.warning("records.partial.unreadable", error=str(error))
        return found

    async def forget(self, key: RoundKey) -> None:
        """Drop an attempt; see `ports.RoundRecords`."""
        names = [_attempt(kind, key) for kind in ("stored", "fresh", "partials")]
        await self._connection.command("UNLINK", *names)

    def epoch(self) -> str:
        """Give the run of the server that connected last; see `ports.RoundRecords`."""
        return self._connection.epoch


class RedisPresence:
    """`ports.Presence` in Redis."""

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection

    async def seen(self, project: ProjectId, clients: Sequence[ClientId], at: datetime) -> None:
        """Keep heartbeats; see `ports.Presence`."""
        oldest = _milliseconds(at - ONLINE_LIFETIME)
        await self._connection.run(
            self._connection.seen,
            _online(project),
            *[str(part) for part in (_milliseconds(at), oldest, _seconds(ONLINE_LIFETIME))],
            *clients,
        )

    async def gone(self, project: ProjectId, clients: Sequence[ClientId], heard: datetime) -> None:
        """Turn time back for clients that left; see `ports.Presence`."""
        scored = [part for one in clients for part in (_milliseconds(heard), one)]
        await self._connection.command("ZADD", _online(project)[0], *scored)

    async def online(self, project: ProjectId, since: datetime) -> dict[ClientId, datetime] | None:
        """Give who was heard; see `ports.Presence`."""
        answer = await self._connection.run(
            self._connection.online, _online(project), _milliseconds(since)
        )
        if answer is None:
            return None
        flat = [_bytes(part).decode() for part in _sequence(answer)]
        return {
            client: _EPOCH + timedelta(milliseconds=int(float(score)))
            for client, score in zip(flat[::2], flat[1::2], strict=True)
        }

    async def known_since(self, project: ProjectId) -> datetime | None:
        """Give the age of the marker; see `ports.Presence`."""
        marker = await self._connection.command("GET", _online(project)[1])
        return None if marker is None else _EPOCH + timedelta(milliseconds=int(_bytes(marker)))


class RedisTransfers:
    """`ports.Transfers` in Redis."""

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection

    async def take(
        self, project: ProjectId, name: str, size: int, limits: TransferLimits, now: datetime
    ) -> int:
        """Take a place; see `ports.Transfers`."""
        answer = await self._connection.run(
            self._connection.take,
            _transfers(project),
            *(str(_milliseconds(now)), str(_milliseconds(now + limits.lease)), name, size),
            *(limits.transfers, limits.bytes, _seconds(TRANSFERS_LIFETIME)),
        )
        return _number(answer)

    async def release(self, project: ProjectId, name: str) -> None:
        """Give a place back; see `ports.Transfers`."""
        await self._connection.run(self._connection.release, _transfers(project), name)


class RedisDocuments:
    """`ports.Documents` in Redis."""

    def __init__(
        self, connection: RedisConnection, lifetime: timedelta = DOCUMENT_LIFETIME
    ) -> None:
        self._connection = connection
        self._lifetime = lifetime

    async def put(self, project: ProjectId, kind: str, name: str, number: int, data: bytes) -> None:
        """Keep the newest; see `ports.Documents`."""
        await self._connection.run(
            self._connection.put_newer,
            [_document(project, kind, name)],
            *(number, "data", data, _seconds(self._lifetime)),
        )

    async def get(self, project: ProjectId, kind: str, name: str) -> tuple[int, bytes] | None:
        """Give a document; see `ports.Documents`."""
        fields = _fields(await self._connection.command("HGETALL", _document(project, kind, name)))
        return (int(fields[b"number"]), fields[b"data"]) if fields else None


def _round(project: ProjectId, session: SessionId) -> str:
    return f"fl:{project}:round:{session}"


def _attempt(kind: str, key: RoundKey) -> str:
    return f"fl:{key.project}:{kind}:{key.session}:{key.round}:{key.attempt}"


def _online(project: ProjectId) -> list[str]:
    return [f"fl:{project}:online", f"fl:{project}:online:known"]


def _transfers(project: ProjectId) -> list[str]:
    return [f"fl:{project}:transfers{part}" for part in ("", ":bytes", ":waiting")]


def _document(project: ProjectId, kind: str, name: str) -> str:
    return f"fl:{project}:doc:{kind}:{name}"


def _seconds(lifetime: timedelta) -> int:
    return lifetime // timedelta(seconds=1)


def _milliseconds(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(milliseconds=1)


def _bytes(answer: object) -> bytes:
    assert isinstance(answer, bytes), f"the server answered {type(answer).__name__}"
    return answer


def _number(answer: object) -> int:
    assert isinstance(answer, int), f"the server answered {type(answer).__name__}"
    return answer


def _sequence(answer: object) -> Sequence[object]:
    assert isinstance(answer, list), f"the server answered {type(answer).__name__}"
    return answer


def _fields(answer: object) -> dict[bytes, bytes]:
    assert isinstance(answer, dict), f"the server answered {type(answer).__name__}"
    return answer
