"""A day without a link, and three kills: nothing is lost within the limits, and it comes in the right order."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from fedbus_local.stack import LocalStack
from fedbus_runtime.nats_bus import NatsBus
from fedbus_schemas import subjects
from fedbus_schemas.records import (
    AnyRecord,
    EventRecord,
    MetricsRecord,
    Record,
    StoredRecords,
    TelemetryRecord,
)
from fedbus_schemas.streams import RECORDS

from tests.e2e.day_site import HOUR_MINUTES, MIDNIGHT_S, MINUTE_S, RECORDS_MAX
from tests.e2e.stores import bus_of
from tests.stacks import WAIT_S, eventually, federation

ROOT = Path(__file__).parents[2]
DAY_MINUTES = 24 * HOUR_MINUTES
FRESH_MINUTES = 5
"""So long telemetry keeps its place before that of everything but alerts; then it falls behind all."""


@dataclass
class Device:
    """A gateway whose client is started and killed."""

    credentials: Path
    state: Path

    @asynccontextmanager
    async def life(self, first: int, count: int, link: str) -> AsyncIterator[Process]:
        """Let the client live for a while; it is killed at the end."""
        arguments = (self.credentials, self.state, first, count, link)
        running = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.e2e.day_site",
            *map(str, arguments),
            cwd=ROOT,
            stdout=PIPE,
        )
        try:
            yield running
        finally:
            if running.returncode is None:
                running.kill()
            await running.wait()

    async def killed_in(self, minute: int, first: int) -> list[int]:
        """Live offline, be killed while logging when this minute is kept; give the minutes that it kept."""
        async with self.life(first, DAY_MINUTES - first, "offline") as running:
            return await kept(running, until=minute)


async def kept(running: Process, until: int) -> list[int]:
    """Read which minutes the client says it has kept; kill it at `until`, and take what it said before."""
    assert running.stdout is not None
    found: list[int] = []
    async with asyncio.timeout(WAIT_S):
        while line := await running.stdout.readline():
            found.append(int(line))
            if found[-1] == until:
                running.kill()
    return found


async def stored(bus: NatsBus, project: str) -> list[StoredRecords]:
    """Give what the servers have, in the order in which they stored it."""
    messages = await bus.streams.read(RECORDS, subjects.logged(project))
    return [StoredRecords.model_validate_json(one.data) for one in messages]


def minutes(batches: list[StoredRecords], kind: type[Record]) -> list[tuple[int, int]]:
    """Give the batch and the minute of each record of a kind, in the order in which they were stored."""
    return [
        (batch.marks[-1].batch, _minute(one))
        for batch in batches
        for one in batch.records
        if isinstance(one, kind)
    ]


def _minute(record: AnyRecord) -> int:
    return int((record.time.timestamp() - MIDNIGHT_S) / MINUTE_S)


async def test_a_day_offline_and_three_kills(stack: LocalStack, tmp_path: Path) -> None:
    async with federation(stack, clients=1, online=False) as fed, bus_of(stack, "combiner") as bus:
        file, state = tmp_path / "client.json", tmp_path / "state"
        await asyncio.to_thread(stack.write_credentials, fed.sites[0].credentials, file)
        device = Device(file, state)
        said = await device.killed_in(DAY_MINUTES // 3, 0)
        # Whether the minute after the last one that it said was kept, nobody knows: it is left out.
        said += await device.killed_in(2 * DAY_MINUTES // 3, said[-1] + 2)
        begin = said[-1] + 2
        said += range(begin, DAY_MINUTES)
        async with device.life(begin, DAY_MINUTES - begin, "online"):
            await eventually(lambda: stored(bus, fed.project), "the first batch is stored")
        async with device.life(DAY_MINUTES, 0, "online"):

            async def all_of_it() -> list[StoredRecords]:
                found = await stored(bus, fed.project)
                return found if sum(len(one.records) for one in found) >= RECORDS_MAX else []

            batches: list[StoredRecords] = await eventually(all_of_it, "the outbox is empty")
    assert_complete(batches, said)
    assert_in_order(batches)


def assert_complete(batches: list[StoredRecords], said: list[int]) -> None:
    """Nothing is there twice; only the oldest of the lowest class is missing, as many as are too many."""
    numbers = [one.number for batch in batches for one in batch.records]
    assert len(numbers) == len(set(numbers)) == RECORDS_MAX
    metrics = [minute for _, minute in minutes(batches, MetricsRecord)]
    assert set(said) <= set(metrics)
    alerts = [minute for _, minute in minutes(batches, EventRecord)]
    assert {one for one in said if one % HOUR_MINUTES == 0} <= set(alerts)
    telemetry = sorted(minute for _, minute in minutes(batches, TelemetryRecord))
    assert {one for one in said if one >= telemetry[0]} <= set(telemetry)
    assert telemetry[0] > HOUR_MINUTES  # there were too many, and the oldest went


def assert_in_order(batches: list[StoredRecords]) -> None:
    """Alerts; what was observed last, the newest first; metrics; what was observed before, the oldest first."""
    alerts, metrics, telemetry = (
        minutes(batches, kind) for kind in (EventRecord, MetricsRecord, TelemetryRecord)
    )
    fresh, old = telemetry[:FRESH_MINUTES], telemetry[FRESH_MINUTES:]
    last = DAY_MINUTES - 1
    assert [minute for _, minute in fresh] == list(range(last, last - FRESH_MINUTES, -1))
    for fifo in (alerts, metrics, old):
        assert fifo == sorted(fifo)
    for earlier, later in ((alerts, fresh), (fresh, metrics), (metrics, old)):
        assert earlier[-1][0] <= later[0][0]
