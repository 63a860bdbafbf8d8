"""The ports as one simulated process sees them: the memory twins, behind links where things go wrong."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from fedbus_runtime.connections import Connections
from fedbus_runtime.errors import BusAway, NoAnswer
from fedbus_runtime.memory_clock import START
from fedbus_runtime.memory_deliveries import MemoryDelivery, _Loans
from fedbus_runtime.memory_streams import MemoryStreams
from fedbus_runtime.memory_wire import MemoryWire
from fedbus_runtime.pieced_blobs import PiecedBlobs
from fedbus_runtime.ports import Delivery, Depth, Request, StoredMessage
from fedbus_schemas.streams import INBOX, Consumer, Stream

from tests.simulation.processes import LOST_WAIT_S, Process
from tests.simulation.records import SimPresence, SimRecords

if TYPE_CHECKING:
    from tests.simulation.world import World

FETCH_WAIT_S = 30.0
"""An empty fetch costs real time and no virtual one."""


def connections(world: "World", process: Process) -> Connections:
    """Give the ports of a service process."""
    return replace(
        world.memory.connections(),
        streams=SimStreams(world, process),
        deliveries=SimDeliveries(world, process),
        wire=SimWire(world, process, world.memory.bus.wire),
        blobs=PiecedBlobs(SimBlobs(world, process)),
        records=SimRecords(world, process),
        presence=SimPresence(world, process),
        clock=SimClock(process),
    )


class SimClock:
    """`ports.Clock` on the loop's time; a stopped process does not wake."""

    def __init__(self, process: Process | None = None) -> None:
        self._process = process

    def now(self) -> datetime:
        return START + timedelta(seconds=asyncio.get_running_loop().time())

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if self._process is not None:
            await self._process.awake()


class SimStreams:
    """`ports.Streams` of a process."""

    def __init__(self, world: "World", process: Process) -> None:
        self._inner = MemoryStreams(world.server)
        self._call = process.bus.call

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
        return await self._call(
            f"append {subject}",
            lambda: self._inner.append(
                subject,
                data,
                expected=expected,
                message_id=message_id,
                ttl_s=ttl_s,
                headers=headers,
            ),
        )

    async def schedule(self, subject: str, target: str, data: bytes, at: datetime) -> None:
        await self._call(
            f"schedule {subject}", lambda: self._inner.schedule(subject, target, data, at)
        )

    async def cancel(self, stream: Stream, subject: str) -> None:
        await self._call(f"cancel {subject}", lambda: self._inner.cancel(stream, subject))

    async def last(self, stream: Stream, subject: str) -> StoredMessage | None:
        return await self._call(f"last {subject}", lambda: self._inner.last(stream, subject))

    async def read(
        self, stream: Stream, subject: str, *, after: int = 0, limit: int = 10_000
    ) -> list[StoredMessage]:
        return await self._call(
            f"read {subject} after {after}",
            lambda: self._inner.read(stream, subject, after=after, limit=limit),
        )

    async def latest(
        self, stream: Stream, subjects: Sequence[str], *, up_to: int | None = None
    ) -> list[StoredMessage]:
        return await self._call(
            f"latest {stream.name} up to {up_to}",
            lambda: self._inner.latest(stream, subjects, up_to=up_to),
        )

    async def subjects(self, stream: Stream, subject: str) -> dict[str, int]:
        return await self._call(
            f"subjects {subject}", lambda: self._inner.subjects(stream, subject)
        )

    async def delete(self, stream: Stream, sequence: int) -> None:
        await self._call(
            f"delete {stream.name} {sequence}", lambda: self._inner.delete(stream, sequence)
        )


class SimDelivery:
    """A message on loan to a process."""

    def __init__(self, inner: Delivery, process: Process, name: str) -> None:
        self._inner = inner
        self._process = process
        self._name = f"{name} {inner.message.sequence}"

    @property
    def message(self) -> StoredMessage:
        return self._inner.message

    @property
    def count(self) -> int:
        return self._inner.count

    async def ack(self) -> None:
        await self._process.bus.call(f"ack {self._name}", self._inner.ack)

    async def retry(self, after_s: float) -> None:
        await self._process.bus.call(f"nak {self._name}", lambda: self._inner.retry(after_s))

    async def working(self) -> None:
        await self._process.bus.call(f"working {self._name}", self._inner.working)

    async def discard(self) -> None:
        await self._process.bus.call(f"discard {self._name}", self._inner.discard)


class SimDeliveries:
    """`ports.Deliveries` of a process: messages come late, twice, and in another order."""

    def __init__(self, world: "World", process: Process) -> None:
        self._server = world.server
        self._consumers = world.consumers
        self._process = process

    async def prepare(self, streams: Sequence[Stream], consumers: Sequence[Consumer]) -> None:
        async def work() -> None:
            self._server.demand()
            for stream in streams:
                self._server.prepare(stream)
            for consumer in consumers:
                self._consumers.prepare(consumer)

        await self._process.bus.call("prepare", work)
        for watcher in list(self._server.watchers):
            watcher()

    async def await_ready(self, consumers: Sequence[Consumer]) -> None:
        while not all(self._consumers.exists(consumer) for consumer in consumers):
            await asyncio.sleep(0.05)

    async def depth(self, consumer: Consumer) -> Depth:
        return self._consumers.depth(consumer)

    async def fetch(self, consumer: Consumer, batch: int) -> list[Delivery]:
        """Wait for messages. The server also lends them to a process that is stopped just now."""
        process, loop = self._process, asyncio.get_running_loop()
        await process.awake()
        end = loop.time() + FETCH_WAIT_S
        taken: list[Delivery] = []
        while not taken and loop.time() < end:
            if process.bus.is_cut or self._server.away:
                await asyncio.sleep(LOST_WAIT_S)
                await process.awake()
                raise BusAway("cut off")
            taken = self._consumers.take(consumer, batch)
            if not taken:
                await self._news(consumer, end)
        await process.awake()
        return self._disturbed(consumer, taken)

    async def _news(self, consumer: Consumer, end: float) -> None:
        """Wait until there may be something to take; whoever would find nothing is not woken."""
        loop = asyncio.get_running_loop()
        news: asyncio.Future[None] = loop.create_future()
        loans = self._consumers._loans[f"{consumer.stream}.{consumer.name}"]
        kept = self._server.streams[consumer.stream]
        at = self._due(loans, end)

        def watcher() -> None:
            if not news.done() and (
                kept.last_sequence > loans.cursor or self._server.away or self._due(loans, end) < at
            ):
                news.set_result(None)

        timer = loop.call_at(max(at, loop.time()) + 1e-6, _settle, news)
        self._server.watchers.append(watcher)
        try:
            await news
        finally:
            timer.cancel()
            self._server.watchers.remove(watcher)

    def _due(self, loans: _Loans, end: float) -> float:
        """Give when a loan ends, or a deadline fires, or `end`."""
        times = list(loans.until.values())
        scheduled = self._server.next_due() if loans.consumer.stream == INBOX.name else None
        if scheduled is not None:
            times.append(scheduled)
        return min(end, (min(times) - START).total_seconds()) if times else end

    def _disturbed(self, consumer: Consumer, taken: list[Delivery]) -> list[Delivery]:
        process, noise, chance = self._process, self._process.noise, self._process.chance
        if noise.until_s > asyncio.get_running_loop().time():
            if len(taken) > 1 and noise.hold:
                chance.shuffle(taken)
            kept: list[Delivery] = []
            for delivery in taken:
                assert isinstance(delivery, MemoryDelivery)
                sequence, loans = delivery.message.sequence, delivery.loans
                if chance.random() < noise.hold:  # others overtake it
                    delay = timedelta(seconds=chance.random() * 1.5)
                    self._consumers.lend(loans, sequence, delay)
                    process.recording.note(process.name, f"held: {consumer.name} {sequence}")
                    continue
                if chance.random() < noise.duplicate:  # somebody else gets it, too
                    delay = timedelta(seconds=chance.random() * 0.05)
                    self._consumers.lend(loans, sequence, delay)
                    process.recording.note(process.name, f"twice: {consumer.name} {sequence}")
                kept.append(delivery)
            taken = kept
        return [SimDelivery(one, process, consumer.name) for one in taken]


def _settle(news: asyncio.Future[None]) -> None:
    if not news.done():
        news.set_result(None)


class SimWire:
    """`ports.Wire` of a process."""

    def __init__(self, world: "World", process: Process, inner: MemoryWire) -> None:
        self._world = world
        self._process = process
        self._inner = inner

    async def request(self, subject: str, data: bytes, timeout_s: float) -> bytes:
        process, noise = self._process, self._process.noise
        noisy = noise.until_s > asyncio.get_running_loop().time()
        if noisy and process.chance.random() < noise.duplicate:
            process.recording.note(process.name, f"twice: request {subject}")
            self._world.spawn(self._again(subject, data))
        try:
            return await process.bus.call(
                f"request {subject}", lambda: self._inner.request(subject, data, timeout_s)
            )
        except BusAway as away:
            raise NoAnswer(str(away)) from away

    async def _again(self, subject: str, data: bytes) -> None:
        await asyncio.sleep(self._process.chance.random() * 0.2)
        try:
            await self._inner.request(subject, data, 5.0)
        except NoAnswer:
            return

    async def serve(
        self, subject: str, queue: str, handler: Callable[[Request], Awaitable[bytes | None]]
    ) -> None:
        process = self._process

        async def guarded(request: Request) -> bytes | None:
            await process.awake()
            if process.bus.is_cut:
                return None
            answer = await handler(request)
            await process.point(f"answer {request.subject}", after=False)
            return None if process.bus.is_cut else answer

        await self._inner.serve(subject, queue, guarded)

    async def listen(self, subject: str) -> AsyncIterator[StoredMessage]:
        process, noise = self._process, self._process.noise
        async for message in self._inner.listen(subject):
            noisy = noise.until_s > asyncio.get_running_loop().time()
            if process.bus.is_cut or (noisy and process.chance.random() < noise.deaf):
                process.recording.note(process.name, f"does not hear {message.subject}")
                continue
            await asyncio.sleep(0.001 * process.chance.random())
            await process.awake()
            yield message
            if noisy and process.chance.random() < noise.duplicate:
                yield message

    async def returned(self) -> None:
        await self._process.bus.returned.wait()
        await self._process.awake()


class SimBlobs:
    """`ports.Blobs` of a process."""

    def __init__(self, world: "World", process: Process) -> None:
        self._inner = world.blobs
        self._call = process.store.call

    async def put(self, key: str, parts: Sequence[bytes | bytearray | memoryview]) -> None:
        await self._call(f"put {key}", lambda: self._inner.put(key, parts))

    async def get(self, key: str, size_max: int) -> bytearray:
        return await self._call(f"get {key}", lambda: self._inner.get(key, size_max))

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        return await self._call(f"get {key}", lambda: self._inner.get_range(key, start, length))

    async def stream(self, key: str) -> AsyncIterator[bytes]:
        async for piece in self._inner.stream(key):
            yield piece

    async def size(self, key: str) -> int | None:
        return await self._call(f"size {key}", lambda: self._inner.size(key))

    async def delete(self, keys: Sequence[str]) -> None:
        await self._call(f"delete {len(keys)}", lambda: self._inner.delete(keys))

    async def list(self, prefix: str) -> Sequence[str]:
        return await self._call(f"list {prefix}", lambda: self._inner.list(prefix))

    async def written(self, prefix: str) -> Mapping[str, datetime]:
        return await self._call(f"list {prefix}", lambda: self._inner.written(prefix))
