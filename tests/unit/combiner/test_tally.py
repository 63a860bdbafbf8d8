"""Counting while Redis forgets: between the look and the count, and when the last update is an old one's."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest
from fedbus_combiner.live_rounds import LiveRounds
from fedbus_combiner.tally import Tallies
from fedbus_core.rounds.decide import Facts, decide
from fedbus_core.rounds.log import fold, seal
from fedbus_core.rounds.state import Session
from fedbus_runtime.errors import RecordsAway
from fedbus_runtime.folded_log import FoldedLog
from fedbus_runtime.memory import MemoryWorld
from fedbus_runtime.memory_clock import START, ManualClock
from fedbus_runtime.memory_records import MemoryRoundRecords
from fedbus_runtime.memory_wire import MemoryWire
from fedbus_runtime.ports import RoundKey, StoredMessage, Tally
from fedbus_schemas import subjects
from fedbus_schemas.events import Participant
from fedbus_schemas.ids import ClientId
from fedbus_schemas.models import ModelRef
from fedbus_schemas.sessions import SessionSettings, StartSession
from fedbus_schemas.streams import STREAMS, UPDATES

PROJECT, SESSION = "default", "s-tally"
CLIENTS = tuple("c" + letter * 16 for letter in "abc")
MODEL = ModelRef(digest="0" * 64, size=8, layout="1" * 64, exponents=(0,))


class Records(MemoryRoundRecords):
    """Something happens to Redis just before a count."""

    def __init__(self, world: MemoryWorld) -> None:
        super().__init__(world.redis)
        self.before_count: Callable[[], None] = lambda: None

    async def count(self, key: RoundKey, updates: Mapping[ClientId, int], batch_size: int) -> Tally:
        self.before_count()
        self.before_count = lambda: None
        return await super().count(key, updates, batch_size)


class Wire(MemoryWire):
    """Remembers the notices."""

    notices: list[str]

    async def request(self, subject: str, data: bytes, timeout_s: float) -> bytes:
        self.notices.append(subject)
        return b"{}"


@dataclass
class Counting:
    """A round that three clients were asked for, and a combiner that counts."""

    world: MemoryWorld = field(default_factory=lambda: MemoryWorld(ManualClock()))

    async def begin(self) -> None:
        self.streams = self.world.bus.streams
        await self.world.bus.deliveries.prepare(STREAMS, [])
        online = tuple(Participant(client=one, key="A" * 43) for one in CLIENTS)
        given = StartSession(session=SESSION, settings=SessionSettings(), model=MODEL)
        decision = decide(None, given, Facts(PROJECT, SESSION, "start", START, online))
        data = seal(None, PROJECT, SESSION, decision.events, "start", START)
        await self.streams.append(subjects.event(PROJECT, SESSION), data, expected=0)
        self.records = Records(self.world)
        self.wire = Wire(self.world.bus.server, self.world.bus._desks)
        self.wire.notices = []
        log = FoldedLog[Session](self.streams, fold)
        rounds = LiveRounds(self.streams, self.records, log)
        self.tallies = Tallies(self.streams, self.wire, self.records, rounds)

    async def store(self, client: str, number: int = 1) -> StoredMessage:
        subject = subjects.update(PROJECT, SESSION, number, client, 1)
        await self.streams.append(subject, b"{}")
        stored = await self.streams.last(UPDATES, subject)
        assert stored is not None
        return stored


@pytest.fixture
async def counting() -> Counting:
    made = Counting()
    await made.begin()
    return made


async def test_the_target_is_told_when_redis_is_flushed_in_the_middle_of_a_count(
    counting: Counting,
) -> None:
    for client in CLIENTS[:2]:
        await counting.tallies.on_update(await counting.store(client))
    counting.records.before_count = counting.world.redis.flush
    await counting.tallies.on_update(await counting.store(CLIENTS[2]))
    assert len(counting.wire.notices) == 1


async def test_the_target_is_told_when_a_stale_copy_comes_in_the_middle_of_a_count(
    counting: Counting,
) -> None:
    await counting.tallies.on_update(await counting.store(CLIENTS[0]))
    stale = counting.world.redis.snapshot()
    await counting.tallies.on_update(await counting.store(CLIENTS[1]))
    counting.records.before_count = lambda: counting.world.redis.restore(stale)
    await counting.tallies.on_update(await counting.store(CLIENTS[2]))
    assert len(counting.wire.notices) == 1


async def test_the_target_is_told_by_whoever_finds_it_reached(counting: Counting) -> None:
    """An update of a round that is over comes again, and brings back what Redis had lost."""
    old = await counting.store(CLIENTS[0], number=9)
    for client in CLIENTS:
        await counting.store(client)
    await counting.tallies.on_update(old)
    assert len(counting.wire.notices) == 1


async def test_the_target_is_told_when_only_the_state_was_written_again_after_a_flush(
    counting: Counting,
) -> None:
    for client in CLIENTS[:2]:
        await counting.tallies.on_update(await counting.store(client))
    live = await counting.records.get_round(PROJECT, SESSION)
    assert live is not None
    counting.world.redis.flush()
    await counting.records.put_round(live)  # as a performer does
    await counting.tallies.on_update(await counting.store(CLIENTS[2]))
    assert len(counting.wire.notices) == 1


async def test_a_rebuild_finds_what_was_counted_and_flushed_after_its_look(
    counting: Counting,
) -> None:
    messages = [await counting.store(client) for client in CLIENTS[:2]]
    late = await counting.store(CLIENTS[2])
    counting.world.bus.server.streams["UPDATES"].drop(late.sequence)  # it comes in a moment

    def arrive_and_flush() -> None:
        """The third update is stored, counted and acknowledged, and then all is flushed."""
        counting.world.bus.server.streams["UPDATES"].add(late)
        counting.world.redis.flush()

    counting.records.before_count = arrive_and_flush
    for message in messages:
        await counting.tallies.on_update(message)
    assert len(counting.wire.notices) >= 1


async def test_a_rebuild_that_broke_off_is_done_again(counting: Counting) -> None:
    for client in CLIENTS[:2]:
        await counting.tallies.on_update(await counting.store(client))
    last = await counting.store(CLIENTS[2])

    def lose() -> None:
        counting.world.redis.away = True

    counting.world.redis.flush()
    counting.records.before_count = lose
    with pytest.raises(RecordsAway):
        await counting.tallies.on_update(last)
    counting.world.redis.away = False
    await counting.tallies.on_update(last)
    assert len(counting.wire.notices) == 1


async def test_what_comes_while_redis_counts_is_counted_in_one_call(counting: Counting) -> None:
    messages = [await counting.store(client) for client in CLIENTS]
    calls: list[int] = []
    count = counting.records.count

    async def slow(key: RoundKey, updates: Mapping[ClientId, int], batch_size: int) -> Tally:
        calls.append(len(updates))
        await asyncio.sleep(0)
        return await count(key, updates, batch_size)

    counting.records.count = slow  # type: ignore[method-assign]
    await counting.tallies.on_update(messages[0])
    calls.clear()
    await asyncio.gather(*map(counting.tallies.on_update, messages))
    assert calls == [1, 2], "the first alone, the others together"
    assert counting.wire.notices


async def test_a_bug_in_a_count_loses_nobody_who_waits(counting: Counting) -> None:
    messages = [await counting.store(client) for client in CLIENTS]

    def fail() -> None:
        counting.records.before_count = lambda: None
        raise ValueError("a bug")

    await counting.tallies.on_update(messages[0])
    counting.records.before_count = fail
    outcomes = await asyncio.gather(
        *map(counting.tallies.on_update, messages[1:]), return_exceptions=True
    )
    assert sum(isinstance(one, ValueError) for one in outcomes) == 1
    assert len(await counting.records.counted(RoundKey(PROJECT, SESSION, 1, 1))) == 3
