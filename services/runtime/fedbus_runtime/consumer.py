"""THE loop: take messages on loan, handle them, settle each one; and the same guard for requests.

Messages of one key (a session) go one by one, keys side by side, all within `concurrency`. From the
moment a message is taken it is kept alive by a heartbeat. A handler ends in one of three ways:
returning = ack, `Retry` = again later, `Reject` = to the dead letters. While a server is away the message
is held and tried again here, which costs no delivery: so deliveries count only retries, bugs and
holders that died, and an outage buries nothing. Anything else is a bug: logged with its traceback and
tried again. Who has used up the consumer's deliveries goes to the dead letters too. A message leaves
its stream only after its copy is stored there.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog
from fedbus_schemas import dead_letters, subjects
from fedbus_schemas.dead_letters import DELIVERIES_USED_UP as DELIVERIES_USED_UP
from fedbus_schemas.streams import Consumer

from fedbus_runtime import tracing
from fedbus_runtime.errors import Away, BusAway, Reject, Retry, RuntimeFault
from fedbus_runtime.message_spans import taking
from fedbus_runtime.metrics import (
    DEAD_LETTERS,
    MESSAGE_SECONDS,
    MESSAGE_WAIT_SECONDS,
    MESSAGES,
    REDELIVERIES,
)
from fedbus_runtime.ports import Clock, Deliveries, Delivery, Request, StoredMessage, Streams
from fedbus_runtime.spans import Tracing

AWAY_WAIT_FIRST_S = 0.1
AWAY_WAIT_MAX_S = 2.0
AWAY_HELD_MAX_S = 300.0
"""How long a message is held for a server that is away, before it is given back."""
RETRY_WAIT_MAX_S = 30.0
RETRIES_EVEN = 5
"""Retries after the time the handler wants; later ones wait longer and longer."""
BUG_WAIT_FIRST_S = 0.5
BUG_WAIT_MAX_S = 30.0
FETCH_RETRY_WAIT_S = 0.5
DRAIN_TIMEOUT_S = 10.0
DETAIL_MAX = 400

Handler = Callable[[StoredMessage], Awaitable[None]]

_log = structlog.get_logger(__name__)
_chance = random.SystemRandom()


async def consume(
    deliveries: Deliveries,
    streams: Streams,
    consumer: Consumer,
    handler: Handler,
    clock: Clock,
    *,
    concurrency: int,
    key: Callable[[StoredMessage], str],
    shown: Tracing | None = None,
) -> None:
    """Handle a consumer's messages until cancelled; then take no more and let the running ones finish.

    `shown` takes the spans of the work, if they are wanted.
    """
    loop = _Loop(deliveries, streams, consumer, handler, clock, concurrency, key, shown)
    await loop.run()


async def answered(
    handler: Callable[[Request], Awaitable[bytes | None]], request: Request
) -> bytes | None:
    """Run a request's handler; what goes wrong is logged and gives no answer: the asker repeats itself."""
    try:
        return await handler(request)
    except RuntimeFault as fault:
        _log.warning("request.unanswered", subject=request.subject, error=str(fault))
    except Exception:  # noqa: BLE001  # a bug must not end the service for everybody
        _log.exception("request.bug", subject=request.subject)
    return None


@dataclass(slots=True)
class _Turn:
    """The lock of one key, dropped when nobody wants it any more."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    wanted: int = 0


@dataclass(slots=True)
class _Loop:
    deliveries: Deliveries
    streams: Streams
    consumer: Consumer
    handler: Handler
    clock: Clock
    concurrency: int
    key: Callable[[StoredMessage], str]
    shown: Tracing | None = None
    free: int = 0
    stopping: bool = False
    held: dict[int, Delivery] = field(default_factory=dict)
    turns: dict[str, _Turn] = field(default_factory=dict)
    one_free: asyncio.Event = field(default_factory=asyncio.Event)
    all_free: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        self.free = self.concurrency
        self.all_free.set()
        async with asyncio.TaskGroup() as tasks:
            heartbeat = tasks.create_task(self._keep_all())
            try:
                while True:
                    await self._take(tasks)
            finally:
                await self._drain()
                heartbeat.cancel()

    async def _take(self, tasks: asyncio.TaskGroup) -> None:
        while self.free == 0:
            self.one_free.clear()
            await self.one_free.wait()
        try:
            taken = await self.deliveries.fetch(self.consumer, self.free)
        except BusAway as away:
            _log.warning("consumer.away", consumer=self.consumer.name, error=str(away))
            await self.clock.sleep(_chance.uniform(0.0, FETCH_RETRY_WAIT_S))
            return
        for delivery in taken:
            self.held[id(delivery)] = delivery
            self.free -= 1
            self.all_free.clear()
            tasks.create_task(self._handle(delivery))

    async def _drain(self) -> None:
        self.stopping = True
        try:
            async with asyncio.timeout(DRAIN_TIMEOUT_S):
                await self.all_free.wait()
        except TimeoutError:
            _log.warning("consumer.drain.timeout", consumer=self.consumer.name)

    async def _handle(self, delivery: Delivery) -> None:
        key = self.key(delivery.message)
        turn = self.turns.setdefault(key, _Turn())
        turn.wanted += 1
        try:
            async with turn.lock:
                await self._settle(delivery)
        finally:
            del self.held[id(delivery)]
            turn.wanted -= 1
            if turn.wanted == 0:
                del self.turns[key]
            self.free += 1
            self.one_free.set()
            if self.free == self.concurrency:
                self.all_free.set()

    async def _keep_all(self) -> None:
        """Keep what is held alive: one heartbeat for all, not a task for each message."""
        while True:
            await self.clock.sleep(self.consumer.ack_wait.total_seconds() / 4)
            async with asyncio.TaskGroup() as beats:
                for delivery in self.held.values():
                    beats.create_task(self._keep(delivery))

    async def _keep(self, delivery: Delivery) -> None:
        try:
            await delivery.working()
        except BusAway:
            return  # the message comes again when this lasts

    async def _settle(self, delivery: Delivery) -> None:
        """Handle one message and settle it; an unsettled one comes again by itself."""
        try:
            with taking(self.shown, self.consumer, delivery), self._measured(delivery):
                outcome = await self._outcome(delivery)
                _tell(outcome)
            how = "done" if outcome is None else "retry" if isinstance(outcome, Retry) else "dead"
            MESSAGES.add(consumer=self.consumer.name, outcome=how)
            if outcome is None:
                await delivery.ack()
            elif isinstance(outcome, Retry):
                await delivery.retry(outcome.after_s)
            else:
                await self._bury(delivery, outcome)
        except Away as away:
            _log.warning("consumer.unsettled", consumer=self.consumer.name, error=str(away))

    @contextmanager
    def _measured(self, delivery: Delivery) -> Iterator[None]:
        """Measure, and name the message in every line that is logged meanwhile."""
        name = self.consumer.name
        waited = self.clock.now() - delivery.message.time
        MESSAGE_WAIT_SECONDS.observe(max(0.0, waited.total_seconds()), consumer=name)
        if delivery.count > 1:
            REDELIVERIES.add(consumer=name)
        message = f"{self.consumer.stream}/{delivery.message.sequence}"
        structlog.contextvars.bind_contextvars(message=message)
        with MESSAGE_SECONDS.timed(consumer=name):
            yield

    async def _outcome(self, delivery: Delivery) -> Retry | Reject | None:
        count, most = delivery.count, self.consumer.deliveries_max
        log = _log.bind(
            consumer=self.consumer.name,
            subject=delivery.message.subject,
            sequence=delivery.message.sequence,
            deliveries=count,
        )
        if count > most:
            return Reject(DELIVERIES_USED_UP, f"whoever held it died or stalled, {most} times")
        try:
            return await self._try(delivery.message, log)
        except Retry as retry:
            log.info("consumer.retry", why=str(retry), after_s=retry.after_s)
            why, after_s = str(retry), _longer(retry.after_s, count)
            if retry.at_most is not None and count >= min(retry.at_most, most):
                return Reject(retry.code, why)
        except Exception as bug:
            log.exception("consumer.bug")
            why, after_s = repr(bug), _backoff(BUG_WAIT_FIRST_S, BUG_WAIT_MAX_S, count)
        return Retry(why, after_s) if count < most else Reject(DELIVERIES_USED_UP, why)

    async def _try(
        self, message: StoredMessage, log: structlog.typing.FilteringBoundLogger
    ) -> Reject | None:
        """Call the handler; while a server is away, hold the message and call it again."""
        held_since = self.clock.monotonic()
        attempt = 0
        while True:
            try:
                await self.handler(message)
            except Reject as reject:
                return reject
            except Away as away:
                attempt += 1
                log.warning("consumer.held", why=str(away), attempt=attempt)
                tracing.happened("held", away=type(away).__name__)
                held_s = self.clock.monotonic() - held_since
                if self.stopping or held_s > AWAY_HELD_MAX_S:
                    raise Retry(str(away), AWAY_WAIT_MAX_S) from away
                await self.clock.sleep(_backoff(AWAY_WAIT_FIRST_S, AWAY_WAIT_MAX_S, attempt))
            else:
                return None

    async def _bury(self, delivery: Delivery, reject: Reject) -> None:
        """Store a copy with the dead letters, then let go of the message."""
        message = delivery.message
        subject = subjects.dead(self.consumer.stream, message.subject)
        headers = {
            **message.headers,
            dead_letters.CODE: reject.code,
            dead_letters.DETAIL: " ".join(reject.detail.split())[:DETAIL_MAX],
            dead_letters.SEQUENCE: str(message.sequence),
            dead_letters.DELIVERIES: str(delivery.count),
            dead_letters.ORIGINAL_ID: original_id(message),
        }
        place = f"{self.consumer.stream}.{self.consumer.name}.{message.sequence}"
        await self.streams.append(subject, message.data, message_id=place, headers=headers)
        await delivery.discard()
        DEAD_LETTERS.add(consumer=self.consumer.name, code=reject.code)
        _log.error("consumer.dead", subject=message.subject, code=reject.code, detail=reject.detail)


def _tell(outcome: Retry | Reject | None) -> None:
    """Show in the trace how a message was settled."""
    if isinstance(outcome, Retry):
        tracing.failed("retry")
        tracing.tell(retry_after_s=outcome.after_s)
    elif isinstance(outcome, Reject):
        tracing.failed(outcome.code)
        tracing.happened("dead_letter", code=outcome.code)


def original_id(message: StoredMessage) -> str:
    """Name a message for ever: by its first id, also when it is delivered again out of the dead letters."""
    headers = message.headers
    named = headers.get(dead_letters.ORIGINAL_ID) or headers.get(dead_letters.MESSAGE_ID)
    return named or f"in.{message.sequence}"


def _longer(after_s: float, deliveries: int) -> float:
    """Give the handler's own wait, then double it with each delivery."""
    doublings = min(max(0, deliveries - RETRIES_EVEN), 16)
    return min(after_s * 2.0**doublings, max(after_s, RETRY_WAIT_MAX_S))


def _backoff(first_s: float, longest_s: float, deliveries: int) -> float:
    """Double the wait with each delivery, with jitter; the exponent is bounded for huge counts."""
    longest = min(longest_s, first_s * 2.0 ** min(deliveries - 1, 16))
    return _chance.uniform(longest / 2, longest)
