"""The bus's durable consumers in memory: loans with an ack wait on the clock, redelivery, delays.

As on the real server, settling is by message, not by loan: the late acknowledgement of a holder that was
thought dead still counts.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from fedbus_schemas.streams import Consumer, Stream

from fedbus_runtime.errors import BusAway
from fedbus_runtime.memory_streams import MemoryServer, MemoryStream, forget_acked, matches
from fedbus_runtime.ports import Clock, Delivery, Depth, StoredMessage

FETCH_WAIT_S = 2.0


@dataclass(slots=True)
class _Loans:
    """One consumer: how far it is, what is out on loan until when, and how often each was delivered."""

    consumer: Consumer
    cursor: int = 0
    until: dict[int, datetime] = field(default_factory=dict)
    counts: dict[int, int] = field(default_factory=dict)

    def settle(self, sequence: int) -> None:
        self.until.pop(sequence, None)
        self.counts.pop(sequence, None)


@dataclass(slots=True)
class MemoryDelivery:
    """A message on loan."""

    deliveries: "MemoryConsumers"
    loans: _Loans
    message: StoredMessage
    count: int

    async def ack(self) -> None:
        """Settle it; see `ports.Delivery`."""
        self.deliveries.settle(self.loans, self.message.sequence)

    async def retry(self, after_s: float) -> None:
        """Give it back; see `ports.Delivery`."""
        self.deliveries.lend(self.loans, self.message.sequence, timedelta(seconds=after_s))

    async def working(self) -> None:
        """Start the ack wait anew; see `ports.Delivery`."""
        wait = self.loans.consumer.ack_wait
        self.deliveries.lend(self.loans, self.message.sequence, wait)

    async def discard(self) -> None:
        """Never deliver it again; see `ports.Delivery`."""
        self.deliveries.settle(self.loans, self.message.sequence)


class MemoryConsumers:
    """The durable consumers of a memory server; they outlive the processes that use them."""

    def __init__(self, server: MemoryServer) -> None:
        self.server = server
        self._loans: dict[str, _Loans] = {}

    def prepare(self, consumer: Consumer) -> None:
        """Create a consumer, or give an existing one these settings."""
        loans = self._loans.setdefault(_name(consumer), _Loans(consumer))
        loans.consumer = consumer

    def exists(self, consumer: Consumer) -> bool:
        """Say whether somebody prepared it."""
        return _name(consumer) in self._loans

    def take(self, consumer: Consumer, batch: int) -> list[Delivery]:
        """Lend what can be lent now."""
        self.server.demand()
        loans = self._loans.get(_name(consumer))
        kept = self.server.streams.get(consumer.stream)
        if loans is None or kept is None:
            raise BusAway(f"there is no consumer {consumer.name}")
        now = self.server.clock.now()
        due = [sequence for sequence, until in loans.until.items() if until <= now]
        taken: list[Delivery] = []
        for sequence in sorted(due, key=lambda each: (loans.until[each], each))[:batch]:
            self._lend_out(loans, kept, sequence, taken)
        while (
            len(taken) < batch
            and len(loans.until) < loans.consumer.pending_max
            and loans.cursor < kept.last_sequence
        ):
            loans.cursor += 1
            message = kept.messages.get(loans.cursor)
            if message is not None and matches(loans.consumer.filter, message.subject):
                self._lend_out(loans, kept, loans.cursor, taken)
        return taken

    def depth(self, consumer: Consumer) -> Depth:
        """Count what can be lent, and what is on loan."""
        self.server.demand()
        loans = self._loans.get(_name(consumer))
        kept = self.server.streams.get(consumer.stream)
        if loans is None or kept is None:
            raise BusAway(f"there is no consumer {consumer.name}")
        pending = sum(
            sequence > loans.cursor and matches(consumer.filter, message.subject)
            for sequence, message in kept.messages.items()
        )
        return Depth(pending=pending, unsettled=len(loans.until))

    def next_due(self, consumer: Consumer) -> datetime | None:
        """Give when the next loan ends or the next schedule fires."""
        loans = self._loans.get(_name(consumer))
        times = list(loans.until.values()) if loans is not None else []
        schedule = self.server.next_due()
        return min([*times, schedule] if schedule is not None else times, default=None)

    def settle(self, loans: _Loans, sequence: int) -> None:
        """End a loan for good."""
        if self.server.away:
            return  # lost on its way, as a real one would be
        loans.settle(sequence)
        kept = self.server.streams.get(loans.consumer.stream)
        if kept is not None:
            forget_acked(kept, sequence)

    def lend(self, loans: _Loans, sequence: int, for_long: timedelta) -> None:
        """Set when a loan ends."""
        if not self.server.away and sequence in loans.until:
            loans.until[sequence] = self.server.clock.now() + for_long
            for watcher in list(self.server.watchers):
                watcher()

    def _lend_out(
        self, loans: _Loans, kept: MemoryStream, sequence: int, taken: list[Delivery]
    ) -> None:
        message = kept.messages.get(sequence)
        if message is None:  # purged or expired while on loan
            loans.settle(sequence)
            return
        loans.counts[sequence] = loans.counts.get(sequence, 0) + 1
        loans.until[sequence] = self.server.clock.now() + loans.consumer.ack_wait
        taken.append(MemoryDelivery(self, loans, message, loans.counts[sequence]))


class MemoryDeliveries:
    """`ports.Deliveries` on a memory server."""

    def __init__(
        self, consumers: MemoryConsumers, clock: Clock, fetch_wait_s: float = FETCH_WAIT_S
    ) -> None:
        self._fetch_wait_s = fetch_wait_s
        self._consumers = consumers
        self._server = consumers.server
        self._clock = clock

    async def prepare(self, streams: Sequence[Stream], consumers: Sequence[Consumer]) -> None:
        """Create or update; see `ports.Deliveries`."""
        self._server.demand()
        for stream in streams:
            self._server.prepare(stream)
        for consumer in consumers:
            self._consumers.prepare(consumer)
        for watcher in list(self._server.watchers):
            watcher()

    async def await_ready(self, consumers: Sequence[Consumer]) -> None:
        """Wait for another service; see `ports.Deliveries`."""
        for consumer in consumers:
            while self._server.away or not self._consumers.exists(consumer):
                await self._wait_for_news(None)

    async def fetch(self, consumer: Consumer, batch: int) -> list[Delivery]:
        """Take messages on loan; see `ports.Deliveries`."""
        end = self._clock.now() + timedelta(seconds=self._fetch_wait_s)
        while True:
            taken = self._consumers.take(consumer, batch)
            if taken or self._clock.now() >= end:
                return taken
            due = self._consumers.next_due(consumer)
            await self._wait_for_news(end if due is None else min(end, due))

    async def depth(self, consumer: Consumer) -> Depth:
        """Say how much there is to do; see `ports.Deliveries`."""
        return self._consumers.depth(consumer)

    async def _wait_for_news(self, until: datetime | None) -> None:
        news = asyncio.Event()
        self._server.watchers.append(news.set)
        try:
            async with asyncio.TaskGroup() as tasks:
                timer = None
                if until is not None:
                    timer = tasks.create_task(self._ring(until, news))
                await news.wait()
                if timer is not None:
                    timer.cancel()
        finally:
            self._server.watchers.remove(news.set)

    async def _ring(self, until: datetime, news: asyncio.Event) -> None:
        left = (until - self._clock.now()).total_seconds()
        await self._clock.sleep(max(left, 0.001))
        news.set()


def _name(consumer: Consumer) -> str:
    return f"{consumer.stream}.{consumer.name}"
