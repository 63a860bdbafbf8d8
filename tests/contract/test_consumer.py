"""Loans and the consumer loop: over memory and over NATS JetStream the same must hold."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from fedbus_runtime.consumer import DELIVERIES_USED_UP, Handler, consume, original_id
from fedbus_runtime.errors import BusAway, Reject, Retry, StoreAway
from fedbus_runtime.ports import Delivery, Depth, StoredMessage
from fedbus_schemas import dead_letters, subjects
from fedbus_schemas.streams import DEAD, WORK, Consumer

from tests.worlds import BusWorld, until


@asynccontextmanager
async def consuming(
    bus: BusWorld, consumer: Consumer, handler: Handler, concurrency: int = 8
) -> AsyncIterator[asyncio.Task[None]]:
    """Run the loop beside a test."""
    async with asyncio.TaskGroup() as tasks:
        loop = tasks.create_task(
            consume(
                bus.deliveries,
                bus.streams,
                consumer,
                handler,
                bus.clock,
                concurrency=concurrency,
                key=lambda message: subjects.token(message.subject, 3),
            )
        )
        try:
            yield loop
        finally:
            loop.cancel()


async def add(bus: BusWorld, session: str, data: bytes = b"item") -> int:
    return await bus.streams.append(subjects.work(bus.project, session, "fold"), data)


async def queue_is_empty(bus: BusWorld) -> None:
    wanted = subjects.work(bus.project, "*", "*")

    async def is_empty() -> bool:
        return not await bus.streams.read(WORK, wanted)

    await until(is_empty, "the queue is empty")


async def fetch_one(bus: BusWorld, consumer: Consumer) -> Delivery:
    """Fetch until something comes."""
    for _ in range(10):
        taken = await bus.deliveries.fetch(consumer, 1)
        if taken:
            return taken[0]
    raise AssertionError("nothing was delivered")


async def test_nothing_to_fetch_is_an_empty_list(bus: BusWorld) -> None:
    consumer = await bus.consumer("WORK", "work")
    async with asyncio.timeout(5):
        assert await bus.deliveries.fetch(consumer, 5) == []


async def test_the_depth_counts_what_is_to_do(bus: BusWorld) -> None:
    unprepared = Consumer(name=f"no-{bus.project}", stream="WORK", filter=f"fl.{bus.project}.>")
    with pytest.raises(BusAway):
        await bus.deliveries.depth(unprepared)
    consumer = await bus.consumer("WORK", "work", ack_wait_s=10)
    assert await bus.deliveries.depth(consumer) == Depth(0, 0)
    for _ in range(3):
        await add(bus, "s-1")
    assert await bus.deliveries.depth(consumer) == Depth(3, 0)
    taken = await fetch_one(bus, consumer)
    assert await bus.deliveries.depth(consumer) == Depth(2, 1)
    await taken.ack()

    async def is_settled() -> bool:
        return await bus.deliveries.depth(consumer) == Depth(2, 0)

    await until(is_settled, "the acknowledgement arrives")


async def test_what_nobody_settles_comes_again_and_is_counted(bus: BusWorld) -> None:
    consumer = await bus.consumer("WORK", "work", ack_wait_s=0.4)
    await add(bus, "s1")
    first = await fetch_one(bus, consumer)
    start = bus.clock.monotonic()
    again = await fetch_one(bus, consumer)
    assert bus.clock.monotonic() - start > 0.2
    assert (first.count, again.count) == (1, 2)
    assert again.message == first.message
    await first.ack()  # late, by the holder that was thought dead: it counts all the same
    await queue_is_empty(bus)


async def test_a_retry_comes_after_its_delay(bus: BusWorld) -> None:
    consumer = await bus.consumer("WORK", "work", ack_wait_s=5)
    await add(bus, "s1")
    start = bus.clock.monotonic()
    await (await fetch_one(bus, consumer)).retry(0.4)
    again = await fetch_one(bus, consumer)
    assert bus.clock.monotonic() - start >= 0.35
    await again.discard()
    await queue_is_empty(bus)


async def test_a_consumer_takes_up_where_it_was_after_a_restart(bus: BusWorld) -> None:
    consumer = await bus.consumer("WORK", "work", ack_wait_s=1)
    await add(bus, "s1", b"first")
    await (await fetch_one(bus, consumer)).ack()
    await queue_is_empty(bus)
    await add(bus, "s1", b"second")
    await bus.restart()
    async with asyncio.timeout(10):
        while True:
            try:
                delivery = await fetch_one(bus, consumer)
                break
            except BusAway:
                continue
    assert delivery.message.data == b"second"
    await delivery.ack()
    await queue_is_empty(bus)


async def test_await_ready_returns_when_another_has_prepared(bus: BusWorld) -> None:
    consumer = Consumer(
        name=f"late-{bus.project}", stream="WORK", filter=f"fl.{bus.project}.work.>"
    )
    async with asyncio.TaskGroup() as tasks:
        ready = tasks.create_task(bus.deliveries.await_ready([consumer]))
        await asyncio.sleep(0.05)
        assert not ready.done()
        await bus.deliveries.prepare([], [consumer])
        async with asyncio.timeout(5):
            await ready


async def test_handles_and_forgets(bus: BusWorld) -> None:
    consumer = await bus.consumer("WORK", "work")
    seen: list[bytes] = []

    async def handle(message: StoredMessage) -> None:
        seen.append(message.data)

    async with consuming(bus, consumer, handle):
        for each in range(30):
            await add(bus, f"s{each % 3}", b"%d" % each)
        await queue_is_empty(bus)
    assert sorted(seen, key=int) == [b"%d" % each for each in range(30)]


async def test_one_session_goes_in_turn_and_sessions_side_by_side(bus: BusWorld) -> None:
    consumer = await bus.consumer("WORK", "work", ack_wait_s=2)
    running: dict[str, int] = {}
    both = asyncio.Event()
    order: list[tuple[str, bytes]] = []

    async def handle(message: StoredMessage) -> None:
        session = subjects.token(message.subject, 3)
        running[session] = running.get(session, 0) + 1
        assert running[session] == 1
        if len([each for each in running.values() if each]) == 2:
            both.set()
        async with asyncio.timeout(5):
            await both.wait()
        await bus.clock.sleep(0.01)
        order.append((session, message.data))
        running[session] -= 1

    for each in range(6):
        await add(bus, f"s{each % 2}", b"%d" % each)
    async with consuming(bus, consumer, handle):
        await queue_is_empty(bus)
    assert [data for session, data in order if session == "s0"] == [b"0", b"2", b"4"]


async def test_no_more_than_concurrency_at_once(bus: BusWorld) -> None:
    consumer = await bus.consumer("WORK", "work")
    running, most = 0, 0

    async def handle(_message: StoredMessage) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await bus.clock.sleep(0.02)
        running -= 1

    for each in range(12):
        await add(bus, f"s{each}")
    async with consuming(bus, consumer, handle, concurrency=3):
        await queue_is_empty(bus)
    assert most == 3


async def test_a_long_handler_keeps_its_message(bus: BusWorld) -> None:
    consumer = await bus.consumer("WORK", "work", ack_wait_s=0.4)
    calls = 0

    async def handle(_message: StoredMessage) -> None:
        nonlocal calls
        calls += 1
        await bus.clock.sleep(1.2)

    await add(bus, "s1")
    async with consuming(bus, consumer, handle):
        await queue_is_empty(bus)
    assert calls == 1


async def test_another_takes_over_from_a_dead_holder(bus: BusWorld) -> None:
    consumer = await bus.consumer("WORK", "work", ack_wait_s=0.4)
    await add(bus, "s1")
    await fetch_one(bus, consumer)  # and dies with it
    handled = asyncio.Event()

    async def handle(_message: StoredMessage) -> None:
        handled.set()

    async with consuming(bus, consumer, handle):
        async with asyncio.timeout(5):
            await handled.wait()
        await queue_is_empty(bus)


@pytest.mark.parametrize("fault", [Retry("not yet", 0.1), StoreAway("gone")], ids=["retry", "away"])
async def test_tries_again_later(bus: BusWorld, fault: Exception) -> None:
    consumer = await bus.consumer("WORK", "work", ack_wait_s=5)
    calls = 0

    async def handle(_message: StoredMessage) -> None:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise fault

    await add(bus, "s1")
    async with consuming(bus, consumer, handle):
        await queue_is_empty(bus)
    assert calls == 3
    assert await bus.streams.read(DEAD, f"fl.{bus.project}.dead.>") == []


async def test_an_outage_costs_no_delivery(bus: BusWorld) -> None:
    consumer = await bus.consumer("WORK", "work", deliveries_max=1)
    calls = 0

    async def handle(_message: StoredMessage) -> None:
        nonlocal calls
        calls += 1
        if calls < 5:
            raise StoreAway("gone")

    await add(bus, "s1")
    async with consuming(bus, consumer, handle):
        await queue_is_empty(bus)
    assert calls == 5
    assert await bus.streams.read(DEAD, f"fl.{bus.project}.dead.>") == []


async def test_a_rejected_message_goes_to_the_dead_letters(bus: BusWorld) -> None:
    consumer = await bus.consumer("WORK", "work")

    async def handle(message: StoredMessage) -> None:
        if message.data == b"poison":
            raise Reject("unreadable", "line one\nline two")

    sequence = await add(bus, "s1", b"poison")
    await add(bus, "s1", b"fine")
    async with consuming(bus, consumer, handle):
        await queue_is_empty(bus)
    (dead,) = await bus.streams.read(DEAD, f"fl.{bus.project}.dead.>")
    assert dead.subject == f"fl.{bus.project}.dead.WORK.work.s1.fold"
    assert dead.data == b"poison"
    assert dead.headers["Dead-Code"] == "unreadable"
    assert dead.headers["Dead-Detail"] == "line one line two"
    assert dead.headers["Dead-Sequence"] == str(sequence)
    assert dead.headers["Dead-Deliveries"] == "1"


async def test_a_poison_message_ends_and_kills_nobody(bus: BusWorld) -> None:
    consumer = await bus.consumer("WORK", "work", deliveries_max=2)
    calls = 0

    async def handle(message: StoredMessage) -> None:
        nonlocal calls
        if message.data == b"poison":
            calls += 1
            raise ZeroDivisionError("a bug of the handler")

    await add(bus, "s1", b"poison")
    await add(bus, "s1", b"fine")
    async with consuming(bus, consumer, handle) as loop:
        await queue_is_empty(bus)
        assert not loop.done()
    assert calls == 2
    (dead,) = await bus.streams.read(DEAD, f"fl.{bus.project}.dead.>")
    assert dead.headers["Dead-Code"] == DELIVERIES_USED_UP
    assert "ZeroDivisionError" in dead.headers["Dead-Detail"]


async def test_a_cancelled_loop_finishes_what_it_has_begun(bus: BusWorld) -> None:
    consumer = await bus.consumer("WORK", "work", ack_wait_s=5)
    begun, may_end = asyncio.Event(), asyncio.Event()
    finished: list[bytes] = []

    async def handle(message: StoredMessage) -> None:
        begun.set()
        await may_end.wait()
        finished.append(message.data)

    await add(bus, "s1")
    async with consuming(bus, consumer, handle) as loop:
        await begun.wait()
        loop.cancel()
        await asyncio.sleep(0)
        assert not loop.done()
        may_end.set()
    assert finished == [b"item"]
    await queue_is_empty(bus)


async def test_goes_on_after_the_server_was_killed(bus: BusWorld) -> None:
    consumer = await bus.consumer("WORK", "work", ack_wait_s=1)
    seen: set[bytes] = set()

    async def handle(message: StoredMessage) -> None:
        seen.add(message.data)

    async with consuming(bus, consumer, handle):
        await add(bus, "s1", b"before")
        await queue_is_empty(bus)
        await bus.restart()
        start = bus.clock.monotonic()
        await add(bus, "s1", b"after")
        await queue_is_empty(bus)
    assert seen == {b"before", b"after"}
    assert bus.clock.monotonic() - start < 3


async def test_a_retry_with_a_limit_goes_to_the_dead_letters_under_its_code(bus: BusWorld) -> None:
    consumer = await bus.consumer("WORK", "work")
    calls = 0

    async def handle(message: StoredMessage) -> None:
        nonlocal calls
        calls += 1
        raise Retry("the model is not there", 0.01, at_most=3, code="blob_missing")

    await bus.streams.append(
        subjects.work(bus.project, "s1", "fold"), b"item", message_id=f"first-{bus.project}"
    )
    async with consuming(bus, consumer, handle):
        await queue_is_empty(bus)
    assert calls == 3
    (dead,) = await bus.streams.read(DEAD, subjects.all_dead(bus.project))
    assert dead.headers[dead_letters.CODE] == "blob_missing"
    assert dead.headers[dead_letters.ORIGINAL_ID] == f"first-{bus.project}"
    assert original_id(dead) == f"first-{bus.project}"
