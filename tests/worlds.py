"""The same ports twice: in memory and on real servers, for tests that must hold on both."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from fedbus_runtime.memory import MemoryBus
from fedbus_runtime.memory_blobs import MemoryBlobs, MemoryGrants
from fedbus_runtime.memory_records import (
    MemoryDocuments,
    MemoryPresence,
    MemoryRedis,
    MemoryRoundRecords,
    MemoryTransfers,
)
from fedbus_runtime.nats_bus import NatsBus
from fedbus_runtime.nats_connection import NatsOptions
from fedbus_runtime.ports import (
    Blobs,
    Clock,
    Deliveries,
    Documents,
    Grants,
    Presence,
    RoundRecords,
    StoredMessage,
    Streams,
    Transfers,
    Wire,
)
from fedbus_runtime.redis_records import (
    RedisConnection,
    RedisDocuments,
    RedisPresence,
    RedisRoundRecords,
    RedisTransfers,
)
from fedbus_runtime.s3_blobs import S3Blobs
from fedbus_runtime.s3_grants import S3Grants
from fedbus_runtime.s3_signing import S3Place
from fedbus_runtime.system_clock import SystemClock
from fedbus_schemas.streams import STREAMS, Consumer

from tests.servers import ACCESS_KEY, SECRET_KEY, Server

LOOK_INTERVAL_S = 0.02
WAIT_MAX_S = 10.0
FETCH_WAIT_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class BusWorld:
    """A bus with its streams prepared. `restart` kills the server and starts it again."""

    project: str
    streams: Streams
    deliveries: Deliveries
    wire: Wire
    clock: Clock
    restart: Callable[[], Awaitable[None]]

    async def consumer(
        self, stream: str, kind: str, *, ack_wait_s: float = 0.5, deliveries_max: int = 20
    ) -> Consumer:
        """Make a consumer that sees this test's project only."""
        consumer = Consumer(
            name=f"{kind}-{self.project}",
            stream=stream,
            filter=f"fl.{self.project}.{kind}.>",
            ack_wait=timedelta(seconds=ack_wait_s),
            deliveries_max=deliveries_max,
        )
        await self.deliveries.prepare([], [consumer])
        return consumer


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordsWorld:
    """The three ports to Redis. The rest is done to the server."""

    project: str
    rounds: RoundRecords
    presence: Presence
    documents: Documents
    transfers: Transfers
    flush: Callable[[], Awaitable[None]]
    kill: Callable[[], Awaitable[None]]
    start: Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreWorld:
    """The object store and its grants."""

    project: str
    blobs: Blobs
    grants: Grants
    clock: Clock


@asynccontextmanager
async def bus_world(server: Server | None) -> AsyncIterator[BusWorld]:
    """Open a bus world; the real one on a running nats-server."""
    project = f"t{secrets.token_hex(6)}"
    clock = SystemClock()
    if server is None:
        memory = MemoryBus(clock, FETCH_WAIT_S)
        await memory.deliveries.prepare(STREAMS, [])

        async def restart_memory() -> None:
            memory.server.restart()

        yield BusWorld(
            project=project,
            streams=memory.streams,
            deliveries=memory.deliveries,
            wire=memory.wire,
            clock=clock,
            restart=restart_memory,
        )
        return

    async def restart() -> None:
        await asyncio.to_thread(server.restart)

    options = NatsOptions(urls=[server.url], name=project)
    bus = await NatsBus.connect(options, fetch_wait_s=FETCH_WAIT_S)
    try:
        await bus.deliveries.prepare(STREAMS, [])
        yield BusWorld(
            project=project,
            streams=bus.streams,
            deliveries=bus.deliveries,
            wire=bus.wire,
            clock=clock,
            restart=restart,
        )
    finally:
        await bus.close()


@asynccontextmanager
async def records_world(server: Server | None) -> AsyncIterator[RecordsWorld]:
    """Open a records world; the real one on a running valkey-server."""
    project = f"t{secrets.token_hex(6)}"
    if server is None:
        redis = MemoryRedis()

        async def flush_memory() -> None:
            redis.flush()

        async def kill_memory() -> None:
            redis.away = True

        async def start_memory() -> None:
            redis.away = False
            redis.restore(MemoryRedis().snapshot())

        yield RecordsWorld(
            project=project,
            rounds=MemoryRoundRecords(redis),
            presence=MemoryPresence(redis),
            documents=MemoryDocuments(redis),
            transfers=MemoryTransfers(redis),
            flush=flush_memory,
            kill=kill_memory,
            start=start_memory,
        )
        return
    connection = RedisConnection(server.url)

    async def flush() -> None:
        await connection.command("FLUSHALL")

    async def kill() -> None:
        server.kill()

    async def start() -> None:
        await asyncio.to_thread(server.start)

    try:
        yield RecordsWorld(
            project=project,
            rounds=RedisRoundRecords(connection),
            presence=RedisPresence(connection),
            documents=RedisDocuments(connection),
            transfers=RedisTransfers(connection),
            flush=flush,
            kill=kill,
            start=start,
        )
    finally:
        await connection.close()


@asynccontextmanager
async def store_world(server: Server | None) -> AsyncIterator[StoreWorld]:
    """Open a store world; the real one on a running SeaweedFS."""
    project = f"t{secrets.token_hex(6)}"
    clock = SystemClock()
    if server is None:
        memory = MemoryBlobs()
        yield StoreWorld(project=project, blobs=memory, grants=MemoryGrants(memory), clock=clock)
        return
    place = store_place(server)
    blobs = S3Blobs(place, clock)
    try:
        await blobs.make_bucket()
        yield StoreWorld(project=project, blobs=blobs, grants=S3Grants(place), clock=clock)
    finally:
        await blobs.close()


def store_place(server: Server, bucket: str = "contract") -> S3Place:
    """Give the bucket that tests use."""
    return S3Place(server.url, bucket, ACCESS_KEY, SECRET_KEY)


async def until(holds: Callable[[], Awaitable[bool]], what: str) -> None:
    """Ask again until it holds; fail when that takes too long."""
    try:
        async with asyncio.timeout(WAIT_MAX_S):
            while not await holds():
                await asyncio.sleep(LOOK_INTERVAL_S)
    except TimeoutError as error:
        raise AssertionError(f"it never came to this: {what}") from error


async def next_of(feed: AsyncIterator[StoredMessage]) -> StoredMessage:
    """Wait for a feed's next message, within a bound."""
    async with asyncio.timeout(WAIT_MAX_S):
        return await anext(feed)
