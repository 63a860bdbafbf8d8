"""How long the api's lists take with many clients and rounds: `python benchmarks/lists.py`.

A nats-server and a Valkey of its own are filled with a project's records, log and reports; the api runs in
this process and is asked over ASGI, so what is measured is the api and its servers, not HTTP.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import httpx
from fedbus_api.app import create_app
from fedbus_api.settings import ApiSection
from fedbus_api.wiring import Api, wire
from fedbus_core.rounds.decide import Facts, decide
from fedbus_core.rounds.log import fold, seal
from fedbus_core.rounds.state import Session
from fedbus_runtime.memory_blobs import MemoryBlobs
from fedbus_runtime.nats_bus import NatsBus
from fedbus_runtime.nats_connection import NatsOptions
from fedbus_runtime.ports import Clock, Streams
from fedbus_runtime.redis_records import (
    RedisConnection,
    RedisDocuments,
    RedisPresence,
    RedisRoundRecords,
)
from fedbus_runtime.system_clock import SystemClock
from fedbus_schemas import subjects
from fedbus_schemas.codec import digest
from fedbus_schemas.events import Participant
from fedbus_schemas.inputs import Input, TargetReached
from fedbus_schemas.models import BlobRef, ModelRef
from fedbus_schemas.registry import ClientRecord
from fedbus_schemas.sessions import SessionSettings, StartSession
from fedbus_schemas.streams import STREAMS
from fedbus_schemas.updates import ValidationReport
from fedbus_schemas.work import FinishResult

from tests.servers import start_nats, start_valkey

CLIENTS = 10_000
SESSIONS = 10
ROUNDS = 100
COHORT = 100
REPORTS = 10
"""Reports of each round."""
ASKS = 15
WRITES_AT_ONCE = 64
PROJECT = "default"
ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
LISTS = (
    "/v1/clients",
    "/v1/clients?limit=500",
    "/v1/clients?online=true&name__contains=9&sort=name",
    "/v1/clients/count?online=true",
    "/v1/sessions",
    "/v1/sessions?phase=completed&sort=-rounds_completed",
    "/v1/sessions/s-1/rounds",
    "/v1/sessions/s-1/rounds?limit=500",
    "/v1/rounds",
    "/v1/rounds?limit=500",
    "/v1/rounds?metrics.loss__lt=0.5&sort=validation.metrics.accuracy",
    "/v1/models?limit=500",
    "/v1/combiners",
    "/v1/validations?limit=500&sort=-metrics.accuracy",
    "/v1/refusals",
    "/v1/status",
)


@dataclass(slots=True)
class Worker:
    """What is asked of the servers."""

    bus: NatsBus
    redis: RedisConnection
    clock: SystemClock

    def api(self) -> Api:
        """Start an api process' parts."""
        ports = SimpleNamespace(
            streams=self.bus.streams,
            wire=self.bus.wire,
            blobs=MemoryBlobs(),
            records=RedisRoundRecords(self.redis),
            presence=RedisPresence(self.redis),
            documents=RedisDocuments(self.redis),
            clock=self.clock,
        )
        return wire(ports, ApiSection())  # type: ignore[arg-type]  # the ports that lists use


def pseudonym(number: int) -> str:
    """Name a client."""
    text = ""
    for _ in range(16):
        number, place = divmod(number, len(ALPHABET))
        text = ALPHABET[place] + text
    return f"c{text}"


async def fill(worker: Worker) -> None:
    """Write a project's records, log and reports."""
    streams = worker.bus.streams
    now = worker.clock.now()
    clients = [pseudonym(number) for number in range(CLIENTS)]
    await together(enter(streams, number, client) for number, client in enumerate(clients))
    for start in range(0, CLIENTS, 1_000):
        await RedisPresence(worker.redis).seen(PROJECT, clients[start : start + 500], now)
    for number in range(SESSIONS):
        members = clients[number * COHORT : (number + 1) * COHORT]
        await run_session(streams, worker.clock, f"s-{number}", members)


def enter(streams: Streams, number: int, client: str) -> Awaitable[int]:
    """Write a client's record."""
    device = "U" + pseudonym(number)[1:].upper().rjust(55, "A")
    record = ClientRecord(
        device=device,
        client=client,
        name=f"site-{number:05}",
        key=client.rjust(43, "k"),
        since=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number),
    )
    return streams.append(subjects.client_record(PROJECT, device), record.to_bytes())


async def run_session(streams: Streams, clock: Clock, session: str, members: list[str]) -> None:
    """Decide a session's rounds, each entry on the one before, and report on each model."""
    online = tuple(Participant(client=one, key=one.rjust(43, "k")) for one in members)
    initial = ModelRef(digest=digest(session.encode()), size=8, layout="1" * 64, exponents=(0,))
    settings = SessionSettings(name=session, rounds=ROUNDS, minimum=1)
    given: Input = StartSession(session=session, settings=settings, model=initial)
    state: Session | None = None
    while state is None or not state.ended:
        cause = f"in.{state.number if state else 0}"
        facts = Facts(PROJECT, session, cause, clock.now(), online, cutoff=10**6)
        data = seal(state, PROJECT, session, decide(state, given, facts).events, cause, facts.now)
        sequence = await streams.append(subjects.event(PROJECT, session), data)
        state = fold(state, data, sequence)
        if state.round is None:
            break
        number = state.round.number
        if state.round.closing is None:
            given = TargetReached(round=number, attempt=1)
            continue
        model = ModelRef(
            digest=digest(f"{session}{number}".encode()), size=8, layout="1" * 64, exponents=(0,)
        )
        given = FinishResult(
            round=number,
            attempt=1,
            step=1,
            model=model,
            included=BlobRef(digest="6" * 64, size=9),
            counted=tuple(sorted(members)),
            weight=1_000,
            rule="fedavg/1",
            metrics={"loss": 1 / number},
            workers=("combiner-1",),
        )
        await together(
            report(streams, session, number, model.digest, one) for one in members[:REPORTS]
        )


def report(streams: Streams, session: str, number: int, model: str, client: str) -> Awaitable[int]:
    """Report on a model."""
    content = ValidationReport(
        session=session, round=number, model=model, weight=10, metrics={"accuracy": 1 - 1 / number}
    )
    subject = subjects.validation(PROJECT, client, session, number)
    return streams.append(subject, content.to_bytes())


async def together(doing: Iterable[Awaitable[int]]) -> None:
    """Do many writes, some at once."""
    slots = asyncio.Semaphore(WRITES_AT_ONCE)

    async def one(writing: Awaitable[int]) -> None:
        async with slots:
            await writing

    await asyncio.gather(*(one(writing) for writing in doing))


async def measure(worker: Worker) -> None:
    """Print how long a start and every list take."""
    async with httpx.AsyncClient(transport=transport(worker.api()), base_url="http://api") as http:
        print(
            f"first list of all rounds, all from the log    {await ask(http, '/v1/rounds'):7.0f} ms"
        )
    async with httpx.AsyncClient(transport=transport(worker.api()), base_url="http://api") as http:
        print(
            f"first list of all rounds, documents in Redis  {await ask(http, '/v1/rounds'):7.0f} ms"
        )
        print(f"\n{'list':66} median   worst")
        for path in LISTS:
            await ask(http, path)
            taken = [await ask(http, path) for _ in range(ASKS)]
            print(f"{path:66} {statistics.median(taken):4.0f} ms {max(taken):4.0f} ms")


def transport(api: Api) -> httpx.ASGITransport:
    """Give a way to an api in this process."""
    return httpx.ASGITransport(create_app(api))


async def ask(http: httpx.AsyncClient, path: str) -> float:
    """Ask once; give the milliseconds."""
    begun = time.perf_counter()
    (await http.get(path)).raise_for_status()
    return (time.perf_counter() - begun) * 1_000


async def main(folder: Path) -> None:
    """Fill the servers and measure."""
    (folder / "nats").mkdir()
    (folder / "redis").mkdir()
    nats, redis = start_nats(folder / "nats"), start_valkey(folder / "redis")
    try:
        options = NatsOptions(urls=(nats.url,), name="lists")
        clock = SystemClock()
        bus = await NatsBus.connect(options)
        worker = Worker(bus, RedisConnection(redis.url), clock)
        await bus.deliveries.prepare(STREAMS, ())
        await fill(worker)
        print(
            f"{CLIENTS} clients, {SESSIONS} sessions of {ROUNDS} rounds with {COHORT} clients each"
        )
        await measure(worker)
        await worker.redis.close()
        await bus.close()
    finally:
        nats.stop()
        redis.stop()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(main(Path(name)))
