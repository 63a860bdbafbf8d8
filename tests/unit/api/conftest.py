"""An api over servers in memory, with a controller that decides at once; and random logs made by `decide`."""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import httpx
import numpy as np
import pytest
from fedbus_api.app import create_app
from fedbus_api.settings import ApiSection
from fedbus_api.wiring import Api, Ports, wire
from fedbus_core.aggregation import tensorfile
from fedbus_core.rounds.decide import Facts, decide
from fedbus_core.rounds.log import fold, seal
from fedbus_core.rounds.state import RoundPhase, Session
from fedbus_runtime.errors import AlreadyStored, BlobMissing, BusAway, Conflict, RecordsAway
from fedbus_runtime.ports import LiveRound, RoundKey, StoredMessage
from fedbus_schemas import streams as all_streams
from fedbus_schemas import subjects
from fedbus_schemas.codec import read_input
from fedbus_schemas.events import Participant, RefusedUpdate
from fedbus_schemas.inputs import ClientsChanged, DeadlineFired, Input, TargetReached
from fedbus_schemas.models import BlobRef, ModelRef
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.sessions import (
    ExtendSession,
    PauseSession,
    ResumeSession,
    SessionSettings,
    StartSession,
    StopSession,
)
from fedbus_schemas.streams import Stream
from fedbus_schemas.updates import Manifest, StoredUpdate, Timings, ValidationReport
from fedbus_schemas.views import TrustView
from fedbus_schemas.work import FinishResult

START = datetime(2026, 1, 1, tzinfo=UTC)
PROJECT = "default"
CLIENTS = tuple(Participant(client="c" + one * 16, key=one.upper() * 43) for one in "abcdef")
KEY = "K" * 43
_STREAMS = {pattern.split(".")[2]: one for one in all_streams.STREAMS for pattern in one.subjects}


def matches(pattern: str, subject: str) -> bool:
    """Say whether a subject matches a pattern with wildcards."""
    wanted, tokens = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        wanted, tokens = wanted[:-1], tokens[: len(wanted) - 1]
    return len(wanted) == len(tokens) and all(
        one in ("*", token) for one, token in zip(wanted, tokens, strict=True)
    )


@dataclass
class FixedClock:
    """Time that moves with each stored message."""

    time: datetime = START

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@dataclass
class Bus:
    """Streams and wire in memory."""

    clock: FixedClock
    kept: dict[str, list[StoredMessage]] = field(default_factory=dict)
    ids: set[str] = field(default_factory=set)
    listeners: list[tuple[str, asyncio.Queue[StoredMessage]]] = field(default_factory=list)
    on_append: Callable[[StoredMessage], None] = lambda _: None
    away: bool = False
    reads: int = 0

    def store(self, subject: str, data: bytes, expected: int | None = None) -> int:
        self.clock.time += timedelta(milliseconds=100)
        stream = _STREAMS[subject.split(".")[2]]
        kept = self.kept.setdefault(stream.name, [])
        same = [one for one in kept if one.subject == subject]
        if expected is not None and expected != (same[-1].sequence if same else 0):
            raise Conflict(subject)
        if same and stream.one_per_subject == "first":
            raise AlreadyStored(subject)
        sequence = kept[-1].sequence + 1 if kept else 1
        message = StoredMessage(subject, sequence, data, self.clock.time)
        if same and stream.one_per_subject == "last":
            kept.remove(same[-1])
        kept.append(message)
        _, project, rest = subject.split(".", 2)
        for pattern, queue in self.listeners:
            if matches(pattern, f"fl.{project}.live.{rest}"):
                queue.put_nowait(message)
        self.on_append(message)
        return sequence

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
        self._check()
        if message_id is not None and message_id in self.ids:
            return 1
        self.ids |= {message_id} if message_id is not None else set()
        return self.store(subject, data, expected)

    async def last(self, stream: Stream, subject: str) -> StoredMessage | None:
        found = await self.read(stream, subject)
        return found[-1] if found else None

    async def read(
        self, stream: Stream, subject: str, *, after: int = 0, limit: int = 10_000
    ) -> list[StoredMessage]:
        self._check()
        self.reads += 1
        kept = self.kept.get(stream.name, [])
        found = [one for one in kept if one.sequence > after and matches(subject, one.subject)]
        return found[:limit]

    async def latest(
        self, stream: Stream, subjects: Sequence[str], *, up_to: int | None = None
    ) -> list[StoredMessage]:
        newest = {}
        for subject in subjects:
            for one in await self.read(stream, subject):
                newest[one.subject] = one
        return sorted(newest.values(), key=lambda one: one.sequence)

    async def subjects(self, stream: Stream, subject: str) -> dict[str, int]:
        counts: dict[str, int] = {}
        for one in await self.read(stream, subject):
            counts[one.subject] = counts.get(one.subject, 0) + 1
        return counts

    async def listen(self, subject: str) -> AsyncIterator[StoredMessage]:
        queue: asyncio.Queue[StoredMessage] = asyncio.Queue()
        entry = (subject, queue)
        self.listeners.append(entry)
        try:
            while True:
                yield await queue.get()
        finally:
            self.listeners = [one for one in self.listeners if one is not entry]

    def _check(self) -> None:
        if self.away:
            raise BusAway("not connected")


@dataclass
class Redis:
    """Documents, round records and presence in memory."""

    documents: dict[tuple[str, str, str], tuple[int, bytes]] = field(default_factory=dict)
    rounds: dict[str, LiveRound] = field(default_factory=dict)
    counts: dict[RoundKey, dict[str, int]] = field(default_factory=dict)
    seen_at: dict[str, datetime] = field(default_factory=dict)
    away: bool = False
    asked: list[str] = field(default_factory=list)

    def _check(self, what: str) -> None:
        self.asked.append(what)
        if self.away:
            raise RecordsAway("gone")

    async def put(self, project: str, kind: str, name: str, number: int, data: bytes) -> None:
        self._check("put")
        place = (project, kind, name)
        if place not in self.documents or self.documents[place][0] <= number:
            self.documents[place] = (number, data)

    async def get(self, project: str, kind: str, name: str) -> tuple[int, bytes] | None:
        self._check("get")
        return self.documents.get((project, kind, name))

    async def get_round(self, project: str, session: str) -> LiveRound | None:
        self._check("get_round")
        return self.rounds.get(session)

    async def counted(self, key: RoundKey) -> dict[str, int]:
        self._check("counted")
        return self.counts.get(key, {})

    async def online(self, project: str, since: datetime) -> dict[str, datetime] | None:
        self._check("online")
        return {one: at for one, at in self.seen_at.items() if at >= since}


@dataclass
class Store:
    """Blobs in memory."""

    kept: dict[str, bytes] = field(default_factory=dict)

    async def put(self, key: str, parts: Sequence[bytes]) -> None:
        self.kept.setdefault(key, b"".join(bytes(part) for part in parts))

    async def size(self, key: str) -> int | None:
        return len(self.kept[key]) if key in self.kept else None

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        return self.kept[key][start : start + length]

    async def stream(self, key: str) -> AsyncIterator[bytes]:
        if key not in self.kept:
            raise BlobMissing(key)
        for start in range(0, len(self.kept[key]), 7):
            yield self.kept[key][start : start + 7]


class World:
    """An api process and all it stands on."""

    def __init__(self, *, token: str | None = None, decides: bool = True) -> None:
        self.clock = FixedClock()
        self.bus = Bus(self.clock)
        self.redis = Redis()
        self.store = Store()
        self.settings = ApiSection(decision_wait=timedelta(seconds=0.3), model_bytes_max=4096)
        self.token = token
        self.online = CLIENTS
        if decides:
            self.bus.on_append = self._decide
        self.api = self.another()

    def another(self) -> Api:
        """Start one more instance on the same servers."""
        ports = Ports(
            streams=self.bus,  # type: ignore[arg-type]  # only what the api uses
            wire=self.bus,  # type: ignore[arg-type]  # as above
            blobs=self.store,  # type: ignore[arg-type]  # as above
            records=self.redis,  # type: ignore[arg-type]  # as above
            presence=self.redis,  # type: ignore[arg-type]  # as above
            documents=self.redis,
            clock=self.clock,
        )
        return wire(ports, self.settings, token=self.token, trust=TrustView(keys=(KEY,)))

    def client(self, api: Api | None = None) -> httpx.AsyncClient:
        app = create_app(api or self.api)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://api")

    def state(self, session: str) -> Session | None:
        state = None
        for one in self.bus.kept.get("EVENTS", []):
            if one.subject == subjects.event(PROJECT, session):
                state = fold(state, one.data, one.sequence)
        return state

    def feed(self, session: str, given: Input, cutoff: int = 0) -> None:
        """Let the controller decide on an input."""
        state = self.state(session)
        cause = f"in.{self.bus.clock.time.timestamp()}"
        facts = Facts(PROJECT, session, cause, self.clock.now(), self.online, cutoff)
        decision = decide(state, given, facts)
        if decision.events:
            data = seal(state, PROJECT, session, decision.events, cause, facts.now)
            self.bus.store(subjects.event(PROJECT, session), data)

    def submit(self, session: str, client: str, number: int = 1, **timings: float) -> int:
        """Store an update for the open round, and count it in Redis as combiners do."""
        manifest = Manifest(
            project=PROJECT,
            session=session,
            round=number,
            attempt=1,
            client=client,
            base="0" * 64,
            update=BlobRef(digest="1" * 64, size=8),
            weight=10,
            timings=Timings(**timings),
        )
        stored = StoredUpdate(manifest=manifest.model_dump_json(), key=KEY, signature="s" * 86)
        subject = subjects.update(PROJECT, session, number, client, 1)
        sequence = self.bus.store(subject, stored.to_bytes())
        key = RoundKey(PROJECT, session, number, 1)
        self.redis.counts.setdefault(key, {})[client] = sequence
        self.redis.rounds[session] = LiveRound(PROJECT, session, 1, "collecting", number, 1, 2, 32)
        return sequence

    def complete(self, session: str, counted: Sequence[str], **more: object) -> str:
        """Close and complete the open round; give the new model's digest."""
        state = self.state(session)
        assert state is not None
        assert state.round is not None
        number = state.round.number
        updates = self.bus.kept.get("UPDATES", [])
        cutoff = updates[-1].sequence if updates else 1
        opened = state.round
        fired = DeadlineFired(round=number, attempt=opened.attempt, due=opened.deadline)
        self.feed(session, fired, cutoff)
        model = hashlib.sha256(f"{session}{number}".encode()).hexdigest()
        self.feed(session, result_of(self.state(session), counted, model, **more))
        return model

    def validate(
        self, session: str, client: str, number: int, model: str, **metrics: float
    ) -> None:
        weight = int(metrics.pop("weight", 1))
        report = ValidationReport(
            session=session, round=number, model=model, weight=weight, metrics=metrics
        )
        self.bus.store(subjects.validation(PROJECT, client, session, number), report.to_bytes())

    def _decide(self, message: StoredMessage) -> None:
        if message.subject.endswith(".command"):
            self.feed(subjects.token(message.subject, 3), read_input(message.data))


def result_of(
    state: Session | None, counted: Sequence[str], model: str = "5" * 64, **more: object
) -> FinishResult:
    """Make the result that the open round's closing asks for."""
    assert state is not None
    assert state.round is not None
    assert state.round.closing is not None
    made = ModelRef(digest=model, size=8, layout="1" * 64, exponents=(0,)) if counted else None
    return FinishResult.model_validate(
        {
            "round": state.round.number,
            "attempt": state.round.attempt,
            "step": state.round.closing.step,
            "model": made,
            "included": BlobRef(digest="6" * 64, size=9) if counted else None,
            "counted": tuple(sorted(counted)),
            "weight": 10 * len(counted),
            "rule": "fedavg/1",
            "workers": ("combiner-1",),
            **more,
        }
    )


def model_file(scale: float = 1.0) -> bytes:
    return tensorfile.write(
        {"w": np.full(4, scale, np.float32), "b": np.array([scale], np.float32)}
    )


def random_log(seed: int, steps: int = 40) -> list[StoredMessage]:
    """Make a log by deciding on random inputs at random times with random clients."""
    chance = random.Random(seed)
    settings = SessionSettings(
        name="random",
        rounds=chance.randint(1, 4),
        minimum=chance.randint(1, 3),
        target=chance.choice([None, 3]),
        attempts_max=chance.randint(1, 2),
        below_minimum=chance.choice(["wait", "fail"]),
        round_timeout_s=chance.choice([5, 60]),
    )
    initial = ModelRef(digest="0" * 64, size=8, layout="1" * 64, exponents=(0,))
    given: Input = StartSession(session="s-random", settings=settings, model=initial)
    log: list[StoredMessage] = []
    state: Session | None = None
    now = START
    for step in range(steps):
        now += timedelta(seconds=chance.choice([1, 1, 30]))
        online = tuple(one for one in CLIENTS if chance.random() < 0.7)
        cause, cutoff = f"i{step}", chance.choice([0, step + 1])
        facts = Facts(PROJECT, "s-random", cause, now, online, cutoff)
        events = decide(state, given, facts).events
        if events:
            data = seal(state, PROJECT, "s-random", events, cause, now)
            sequence = 3 * (len(log) + 1)
            state = fold(state, data, sequence)
            stored = now + timedelta(milliseconds=3)
            subject = subjects.event(PROJECT, "s-random")
            log.append(StoredMessage(subject, sequence, data, stored))
        given = _any_input(chance, state)
    return log


def _any_input(chance: random.Random, state: Session | None) -> Input:
    assert state is not None
    if chance.random() < 0.15:
        orders: list[Input] = [PauseSession(), ResumeSession(), ExtendSession(rounds=1)]
        return chance.choice(
            [*orders, StopSession(reason="enough")] if chance.random() < 0.1 else orders
        )
    if state.round is None:
        if state.look_again is None:
            return ResumeSession()
        number, attempt = state.completed + 1, state.next_attempt
        fired = DeadlineFired(round=number, attempt=attempt, due=state.look_again)
        return chance.choice([ClientsChanged(), fired])
    opened = state.round
    if opened.phase is RoundPhase.CLOSING:
        members = [one.client for one in opened.cohort]
        good = sorted(chance.sample(members, chance.randint(0, len(members))))
        bad = sorted(set(members) - set(good))[: chance.randint(0, 2)]
        refused = tuple(RefusedUpdate(client=one, code=RefusalCode.NOT_FINITE) for one in bad)
        return result_of(state, good, chance.choice("34567") * 64, refused=refused)
    if chance.random() < 0.5:
        return TargetReached(round=opened.number, attempt=opened.attempt)
    return DeadlineFired(round=opened.number, attempt=opened.attempt, due=opened.deadline)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def new_world() -> type[World]:
    return World


@pytest.fixture
def logs() -> Callable[[int], list[StoredMessage]]:
    return random_log


@pytest.fixture
def file() -> bytes:
    return model_file()
