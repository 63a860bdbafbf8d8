"""Durable consumers on NATS JetStream: a pull per consumer that is armed again before it runs dry.

The server answers a pull for a bounded time; what comes after `fetch` returned lies in a local queue for
the next call, never more than was asked for. A pull dies with its connection, so a reconnect forgets
what was asked. A single server forgets its memory streams altogether when it starts again, settings
included, so whoever prepared them makes them anew at each return. `await_ready` looks every half
second: the server tells of a new consumer only to those who were connected when it was made.
"""

import asyncio
import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from fedbus_schemas.streams import Consumer, Stream
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from fedbus_runtime.errors import BusAway
from fedbus_runtime.nats_connection import (
    STATUS,
    NatsConnection,
    NoResponders,
    from_nanoseconds,
    own_headers,
)
from fedbus_runtime.nats_streams import (
    consumer_depth,
    consumer_exists,
    prepare_consumer,
    prepare_stream,
)
from fedbus_runtime.ports import Delivery, Depth, StoredMessage

PULL_LIFETIME_S = 2.0
PULL_GRACE_S = 1.0
LOOK_INTERVAL_S = 0.5
HAND_BACK_DELAY_S = 0.1
RENEWALS_MAX = 20

_log = structlog.get_logger(__name__)
_NANOSECONDS = 1_000_000_000
_TOKENS_SHORT = 9
"""Tokens of an acknowledgement subject without domain and account: `$JS.ACK.<stream>.<consumer>.…`."""


@dataclass(frozen=True, slots=True)
class NatsDelivery:
    """A message on loan; settling it is a publish that the server does not confirm."""

    connection: NatsConnection
    reply: str
    message: StoredMessage
    count: int

    async def ack(self) -> None:
        """Settle it; see `ports.Delivery`."""
        await self.connection.send(self.reply, b"+ACK")

    async def retry(self, after_s: float) -> None:
        """Give it back; see `ports.Delivery`."""
        delay = max(
            1, int(after_s * _NANOSECONDS)
        )  # without a delay it would come back at once, again and again
        await self.connection.send(self.reply, b"-NAK " + json.dumps({"delay": delay}).encode())

    async def working(self) -> None:
        """Start the ack wait anew; see `ports.Delivery`."""
        await self.connection.send(self.reply, b"+WPI")

    async def discard(self) -> None:
        """Never deliver it again; see `ports.Delivery`."""
        await self.connection.send(self.reply, b"+TERM")


class _Pull:
    """The local queue of one consumer and what the server still owes us."""

    def __init__(self, connection: NatsConnection, consumer: Consumer, lifetime_s: float) -> None:
        self._connection = connection
        self._lifetime_s = lifetime_s
        self._verb = f"$JS.API.CONSUMER.MSG.NEXT.{consumer.stream}.{consumer.name}"
        self._inbox = connection.new_inbox()
        self._subscription: Subscription | None = None
        self._arrived: deque[NatsDelivery] = deque()
        self._owed = 0
        self._fault: BusAway | None = None
        self._news = asyncio.Event()
        self._turn = asyncio.Lock()
        connection.when_lost(self._on_lost)

    async def fetch(self, batch: int) -> list[Delivery]:
        async with self._turn:
            if not self._arrived:
                await self._arm(batch)
                await self._wait()
            return [self._arrived.popleft() for _ in range(min(batch, len(self._arrived)))]

    async def stop(self) -> None:
        """Give back what nobody has taken."""
        if self._subscription is not None and self._connection.connected:
            await self._subscription.unsubscribe()
        self._subscription = None
        while self._arrived:
            await self._arrived.popleft().retry(HAND_BACK_DELAY_S)

    async def _arm(self, batch: int) -> None:
        try:
            async with asyncio.timeout(self._lifetime_s):
                await self._connection.wait_connected()
        except TimeoutError as error:
            raise BusAway("not connected") from error
        if self._subscription is None:
            self._subscription = await self._connection.client.subscribe(
                self._inbox, cb=self._on_message
            )
        self._news.clear()
        self._fault = None
        if self._owed <= batch // 2:
            wanted = batch - self._owed
            self._owed += wanted
            expires = int(self._lifetime_s * _NANOSECONDS)
            ask = json.dumps({"batch": wanted, "expires": expires}).encode()
            await self._connection.send(self._verb, ask, reply=self._inbox)

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._lifetime_s + PULL_GRACE_S):
                await self._news.wait()
        except TimeoutError:
            self._owed = 0  # the end of the pull got lost
        if self._fault is not None:
            raise self._fault

    async def _on_message(self, message: Msg) -> None:
        headers = message.headers or {}
        status = headers.get(STATUS)
        if status is None:
            self._owed = max(0, self._owed - 1)
            self._arrived.append(_delivery(self._connection, message))
        else:
            self._owed = max(0, self._owed - int(headers.get("Nats-Pending-Messages", self._owed)))
            if status == "503":
                self._fault = NoResponders(f"nobody answers on {self._verb}")
            elif status == "409" and "Deleted" in headers.get("Description", ""):
                self._fault = BusAway("the consumer was deleted")
            if self._owed and self._fault is None:
                return  # another pull is still open
        self._news.set()

    def _on_lost(self) -> None:
        self._owed = 0
        self._fault = BusAway("the connection was lost")
        self._news.set()


class NatsDeliveries:
    """`ports.Deliveries` on a NATS connection."""

    def __init__(
        self,
        connection: NatsConnection,
        replicas: int = 1,
        fetch_wait_s: float = PULL_LIFETIME_S,
    ) -> None:
        self._fetch_wait_s = fetch_wait_s
        self._connection = connection
        self._replicas = replicas
        self._pulls: dict[str, _Pull] = {}
        self._in_memory: dict[str, Stream] = {}
        connection.when_back(self._renew)

    async def prepare(self, streams: Sequence[Stream], consumers: Sequence[Consumer]) -> None:
        """Create or update; see `ports.Deliveries`."""
        for stream in streams:
            await prepare_stream(self._connection, stream, self._replicas)
            if stream.memory:
                self._in_memory[stream.name] = stream
        for consumer in consumers:
            await prepare_consumer(self._connection, consumer)

    async def await_ready(self, consumers: Sequence[Consumer]) -> None:
        """Wait for another service; see `ports.Deliveries`."""
        for consumer in consumers:
            while not await self._look(consumer):  # noqa: ASYNC110  # see the module's docstring
                await asyncio.sleep(LOOK_INTERVAL_S)

    async def fetch(self, consumer: Consumer, batch: int) -> list[Delivery]:
        """Take messages on loan; see `ports.Deliveries`."""
        name = f"{consumer.stream}.{consumer.name}"
        pull = self._pulls.get(name)
        if pull is None:
            pull = self._pulls[name] = _Pull(self._connection, consumer, self._fetch_wait_s)
        return await pull.fetch(batch)

    async def depth(self, consumer: Consumer) -> Depth:
        """Say how much there is to do; see `ports.Deliveries`."""
        return await consumer_depth(self._connection, consumer)

    async def stop(self) -> None:
        """Give back everything that nobody has taken from the local queues."""
        for pull in self._pulls.values():
            await pull.stop()

    async def _renew(self) -> None:
        """Make the memory streams again; a server that is not quite there yet is asked again."""
        for _ in range(RENEWALS_MAX):
            try:
                for stream in self._in_memory.values():
                    await prepare_stream(self._connection, stream, self._replicas)
            except BusAway as away:
                _log.warning("bus.renew.retry", error=str(away))
                await asyncio.sleep(LOOK_INTERVAL_S)
            else:
                return
        _log.error("bus.renew.failed", streams=sorted(self._in_memory))

    async def _look(self, consumer: Consumer) -> bool:
        try:
            return await consumer_exists(self._connection, consumer)
        except BusAway:
            return False


def _delivery(connection: NatsConnection, message: Msg) -> NatsDelivery:
    tokens = message.reply.split(".")
    if len(tokens) > _TOKENS_SHORT:
        tokens = tokens[2:]
    count, sequence, time = int(tokens[4]), int(tokens[5]), int(tokens[7])
    content = StoredMessage(
        subject=message.subject,
        sequence=sequence,
        data=message.data,
        time=from_nanoseconds(time),
        headers=own_headers(message.headers),
    )
    return NatsDelivery(connection, message.reply, content, count)
