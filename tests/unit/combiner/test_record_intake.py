"""Batches of records: stored once, by kind, within each client's limits; attributes as they are now."""

import asyncio

from fedbus_combiner.records import Records, RecordsSection
from fedbus_runtime.memory_clock import ManualClock
from fedbus_runtime.memory_streams import MemoryServer, MemoryStreams
from fedbus_schemas import subjects
from fedbus_schemas.asks import Answer, Beat
from fedbus_schemas.codec import read
from fedbus_schemas.ids import Scalar
from fedbus_schemas.records import (
    ATTRIBUTES_MAX,
    BATCH_BYTES_MAX,
    AnyRecord,
    AttributesRecord,
    Backlog,
    ClientAttributes,
    EventRecord,
    Level,
    MetricsRecord,
    RecordBatch,
    StoredRecords,
)
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.registry import ClientRecord
from fedbus_schemas.streams import RECORDS, REGISTRY, TELEMETRY

from tests.unit.combiner.people import client

P, STREAM, OTHER = "p", "a" * 16, "b" * 16


class World:
    def __init__(self, **limits: float) -> None:
        self.clock = ManualClock()
        self.server = MemoryServer(self.clock)
        for stream in (RECORDS, REGISTRY, TELEMETRY):
            self.server.prepare(stream)
        self.streams = MemoryStreams(self.server)
        section = RecordsSection.model_validate(limits)
        self.records = Records(self.streams, self.clock, section)
        self.other = Records(self.streams, self.clock, section)
        self.me = self.client("a")

    def client(self, letter: str) -> ClientRecord:
        return client(letter, self.clock.now())

    def metric(self, number: int) -> MetricsRecord:
        return MetricsRecord(
            number=number, time=self.clock.now(), metrics={"loss": 0.5}, step=number
        )

    def event(self, number: int, text: str = "x") -> EventRecord:
        return EventRecord(number=number, time=self.clock.now(), level=Level.INFO, text=text)

    def attributes(self, number: int, **values: Scalar | None) -> AttributesRecord:
        return AttributesRecord(number=number, time=self.clock.now(), attributes=values)

    async def send(self, batch: int, *records: AnyRecord, stream: str = STREAM) -> Answer:
        content = RecordBatch(stream=stream, batch=batch, records=records)
        return await self.records.take(P, self.me, content.to_bytes())

    async def kept(self, kind: str = "*") -> list[int]:
        subject = subjects.logged(P, self.me.client, kind)
        return [
            record.number
            for one in await self.streams.read(RECORDS, subject)
            for record in read(StoredRecords, one.data).records
        ]

    async def now(self) -> dict[str, Scalar | None]:
        message = await self.streams.last(REGISTRY, subjects.attributes_record(P, self.me.client))
        assert message is not None
        return {
            key: one.value for key, one in read(ClientAttributes, message.data).attributes.items()
        }


async def test_a_batch_is_stored_once_by_kind_and_in_its_order() -> None:
    world = World()
    batch = (world.metric(3), world.event(1), world.metric(2))
    for _ in range(3):
        assert (await world.send(1, *batch)).noted is not None
    assert await world.kept("metrics") == [3, 2]
    assert await world.kept("event") == [1]


async def test_a_batch_stored_by_half_is_completed() -> None:
    world = World()
    await world.send(1, world.metric(1))  # all that a combiner got done before it died
    await world.send(1, world.metric(1), world.event(2))
    assert await world.kept("metrics") == [1]
    assert await world.kept("event") == [2]


async def test_two_outboxes_of_one_client_do_not_hide_each_other() -> None:
    world = World()
    for batch in (1, 2):
        await world.send(batch, world.event(batch))
        await world.send(batch, world.event(10 * batch), stream=OTHER)
    await world.send(2, world.event(2))
    assert await world.kept() == [1, 10, 2, 20]


async def test_two_combiners_at_once_store_a_batch_once() -> None:
    world = World()
    batch = RecordBatch(stream=STREAM, batch=1, records=(world.event(1),)).to_bytes()
    await asyncio.gather(
        *(one.take(P, world.me, batch) for one in (world.records, world.other) * 4)
    )
    assert await world.kept() == [1]


async def test_attributes_are_the_last_logged_ones() -> None:
    world = World()
    await world.send(1, world.attributes(1, site="eu", gpu=1), world.attributes(2, gpu=2))
    assert await world.now() == {"site": "eu", "gpu": 2}
    await world.send(2, world.attributes(4, site=None, ready=True))
    await world.send(3, world.attributes(3, site="us", gpu=3))  # logged before, sent after
    assert await world.now() == {"ready": True, "site": None, "gpu": 3}
    await world.send(2, world.attributes(4, site=None, ready=True))
    assert await world.now() == {"ready": True, "site": None, "gpu": 3}
    assert await world.kept("attributes") == [1, 2, 4, 3]


async def test_too_many_attributes_are_refused_and_nothing_is_kept() -> None:
    world = World()
    full: dict[str, Scalar | None] = {f"a{number}": number for number in range(ATTRIBUTES_MAX)}
    await world.send(1, world.attributes(1, **full))
    answer = await world.send(2, world.event(2), world.attributes(3, more=1))
    assert answer.refusal is not None
    assert answer.refusal.code is RefusalCode.TOO_LARGE
    assert await world.kept() == [1]
    await world.send(3, world.attributes(4, a0=None), world.attributes(5, more=1))
    assert len(await world.now()) == ATTRIBUTES_MAX


async def test_a_flood_is_told_when_to_come_again() -> None:
    world = World(per_second=10, burst=256)
    for number in range(1, 257):
        assert (await world.send(number, world.event(number))).refusal is None
    answer = await world.send(257, *[world.event(257 + one) for one in range(5)])
    refusal = answer.refusal
    assert refusal is not None
    assert refusal.code is RefusalCode.RETRY_LATER
    assert refusal.retry_after_s == 0.5
    assert "records.per_second = 10" in refusal.detail
    other = RecordBatch(stream=STREAM, batch=1, records=(world.event(1),)).to_bytes()
    assert (await world.records.take(P, world.client("b"), other)).refusal is None
    world.clock.advance(0.5)
    assert (await world.send(257, *[world.event(257 + one) for one in range(5)])).noted


async def test_bytes_are_limited_too() -> None:
    world = World(bytes_per_second=1000, bytes_burst=BATCH_BYTES_MAX)
    large = [world.event(number, "x" * 4000) for number in range(1, 41)]
    assert (await world.send(1, *large)).noted is not None
    refusal = (await world.send(2, *large)).refusal
    assert refusal is not None
    assert refusal.code is RefusalCode.RETRY_LATER
    assert "records.bytes_per_second = 1000" in refusal.detail


async def test_what_is_no_batch_is_refused() -> None:
    world = World()
    for data, code in (
        (b"{}", RefusalCode.UNREADABLE),
        (b"x" * (BATCH_BYTES_MAX + 1), RefusalCode.TOO_LARGE),
    ):
        refusal = (await world.records.take(P, world.me, data)).refusal
        assert refusal is not None
        assert refusal.code is code


async def test_a_client_keeps_its_newest_records_only() -> None:
    world = World()
    world.server.streams["RECORDS"].stream = RECORDS.__class__(
        name="RECORDS", subjects=RECORDS.subjects, per_subject_max=3
    )
    for number in range(1, 6):
        await world.send(number, world.event(number))
    assert await world.kept() == [3, 4, 5]


async def test_a_backlog_is_kept_and_reports_of_it_are_limited() -> None:
    world = World()
    for total in range(20):
        beat = Beat(backlog=Backlog(total=total, bytes=1, dropped=0))
        await world.records.beat(P, world.me, beat)
    await world.records.beat(P, world.me, Beat())
    message = await world.streams.last(TELEMETRY, subjects.backlog(P, world.me.client))
    assert message is not None
    assert read(Backlog, message.data).total == 4
