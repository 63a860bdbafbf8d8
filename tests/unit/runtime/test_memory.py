"""The parts of the memory twins that no server shares: the manual clock, subjects, faults at will."""

import asyncio
from datetime import timedelta

import pytest
from fedbus_runtime.errors import BusAway, RecordsAway, StoreAway
from fedbus_runtime.memory import MemoryWorld
from fedbus_runtime.memory_clock import START, ManualClock
from fedbus_runtime.memory_streams import matches, transform
from fedbus_runtime.ports import RoundKey
from fedbus_schemas import subjects
from fedbus_schemas.streams import CONSUMERS, CONTROLLERS, STREAMS


@pytest.mark.parametrize(
    ("pattern", "subject", "fits"),
    [
        ("fl.a.evt.s", "fl.a.evt.s", True),
        ("fl.*.evt.*", "fl.a.evt.s", True),
        ("fl.*.evt.*", "fl.a.evt.s.t", False),
        ("fl.*.evt.*", "fl.a.evt", False),
        ("fl.>", "fl.a.evt.s", True),
        ("fl.a.>", "fl.a", False),
    ],
)
def test_matches_as_the_server_does(pattern: str, subject: str, fits: bool) -> None:
    assert matches(pattern, subject) is fits


def test_rewrites_subjects_as_the_server_does() -> None:
    rule = ("fl.*.mbox.*.*", "fl.{{wildcard(1)}}.task.{{wildcard(2)}}.{{wildcard(3)}}")
    assert transform(*rule, "fl.p.mbox.U1.s1") == "fl.p.task.U1.s1"
    rule = ("fl.*.tel.>", "fl.{{wildcard(1)}}.live.tel.>")
    assert transform(*rule, "fl.p.tel.c1.x.y") == "fl.p.live.tel.c1.x.y"


async def test_the_clock_wakes_sleepers_in_order() -> None:
    clock = ManualClock()
    woken: list[int] = []

    async def sleep(number: int, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(number)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(sleep(1, 3))
        tasks.create_task(sleep(2, 1))
        await asyncio.sleep(0)
        assert clock.next_due() == 1
        clock.advance(2)
        await asyncio.sleep(0)
        assert woken == [2]
        clock.advance(1)
    assert woken == [2, 1]
    assert clock.now() == START + timedelta(seconds=3)
    assert clock.next_due() is None


async def test_a_deadline_wakes_a_waiting_fetch() -> None:
    clock = ManualClock()
    bus = MemoryWorld(clock).bus
    await bus.deliveries.prepare(STREAMS, CONSUMERS)
    due = START + timedelta(seconds=1)
    await bus.streams.schedule(
        subjects.schedule("p", "s1"), subjects.deadline("p", "s1"), b"due", due
    )
    async with asyncio.TaskGroup() as tasks:
        fetched = tasks.create_task(bus.deliveries.fetch(CONTROLLERS, 1))
        while clock.next_due() is None:
            await asyncio.sleep(0)
        clock.advance(1)
        (delivery,) = await fetched
    assert delivery.message.data == b"due"


async def test_every_server_can_be_away() -> None:
    world = MemoryWorld(ManualClock())
    ports = world.connections()
    world.bus.server.away = world.redis.away = world.blobs.away = True
    with pytest.raises(BusAway):
        await ports.streams.append(subjects.event("p", "s1"), b"x")
    with pytest.raises(RecordsAway):
        await ports.records.counted(RoundKey("p", "s1", 1, 1))
    with pytest.raises(StoreAway):
        await ports.blobs.size("x")


async def test_a_stale_copy_of_redis_is_made_whole_by_counting_again() -> None:
    world = MemoryWorld(ManualClock())
    records, key = world.connections().records, RoundKey("p", "s1", 1, 1)
    await records.count(key, {"a": 1}, 10)
    copied, epoch = world.redis.snapshot(), records.epoch()
    await records.count(key, {"b": 2, "c": 3}, 10)
    world.redis.restore(copied)
    assert records.epoch() != epoch
    assert await records.counted(key) == {"a": 1}
    assert (await records.count(key, {"a": 1, "b": 2, "c": 3}, 10)).stored == 3
