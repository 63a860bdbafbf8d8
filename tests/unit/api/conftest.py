"""An api over servers in memory, with a controller that decides at once; and random logs made by `decide`."""

import asyncio
import hashlib
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import httpx
import numpy as np
import pytest
from fedbus_api.app import create_app
from fedbus_api.settings import ApiSection
from fedbus_api.wiring import Api, wire
from fedbus_core.aggregation import tensorfile
from fedbus_core.rounds.decide import Facts, decide
from fedbus_core.rounds.effects import live_round
from fedbus_core.rounds.log import fold, seal
from fedbus_core.rounds.state import RoundPhase, Session
from fedbus_runtime.memory import MemoryWorld
from fedbus_runtime.memory_clock import ManualClock
from fedbus_runtime.ports import RoundKey, StoredMessage
from fedbus_schemas import subjects
from fedbus_schemas.codec import read_input
from fedbus_schemas.events import Participant, RefusedUpdate
from fedbus_schemas.inputs import ClientsChanged, DeadlineFired, Input, TargetReached
from fedbus_schemas.models import BlobRef, ModelRef
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.sessions import (
    ArchiveSession,
    ExtendSession,
    PauseSession,
    ResumeSession,
    SessionSettings,
    StartSession,
    StopSession,
)
from fedbus_schemas.streams import STREAMS
from fedbus_schemas.updates import Manifest, StoredUpdate, Timings, ValidationReport
from fedbus_schemas.views import TrustView
from fedbus_schemas.work import FinishResult

START = datetime(2026, 1, 1, tzinfo=UTC)
PROJECT = "default"
CLIENTS = tuple(Participant(client="c" + one * 16, key=one.upper() * 43) for one in "abcdef")
KEY = "K" * 43


class StepClock(ManualClock):
    """Time moves with each stored message; waits are real."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


class World:
    """An api process and all it stands on."""

    def __init__(self, *, token: str | None = None, decides: bool = True) -> None:
        self.clock = StepClock()
        self.servers = MemoryWorld(self.clock)
        self.bus = self.servers.bus.server
        self.redis = self.servers.redis
        self.store = self.servers.blobs
        for stream in STREAMS:
            self.bus.prepare(stream)
        self.settings = ApiSection(
            decision_wait=timedelta(seconds=0.3), model_bytes_max=4096, package_bytes_max=4096
        )
        self.token = token
        self.online = CLIENTS
        self.decider = "controller-1"
        self._decided = 0
        if decides:
            self.bus.watchers.append(self.decide_all)
        self.api = self.another()

    def another(self) -> Api:
        """Start one more instance on the same servers."""
        trust = TrustView(keys=(KEY,))
        return wire(self.servers.connections(), self.settings, token=self.token, trust=trust)

    def kept(self, stream: str) -> list[StoredMessage]:
        """Give what a stream holds."""
        return list(self.bus.streams[stream].messages.values())

    def put(self, subject: str, data: bytes) -> int:
        """Store a message, a moment after the one before."""
        self.clock.advance(0.1)
        return self.bus.store(self.bus.taking(subject), subject, data, {}).sequence

    def decide_all(self) -> None:
        """Let the controller decide on the commands that came in."""
        for message in self.kept("INBOX"):
            if message.sequence > self._decided and message.subject.endswith(".command"):
                self._decided = message.sequence
                cause = message.headers["Nats-Msg-Id"]
                session = subjects.token(message.subject, 3)
                self.feed(session, read_input(message.data), cause=cause)

    def client(self, api: Api | None = None) -> httpx.AsyncClient:
        app = create_app(api or self.api)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://api")

    def state(self, session: str) -> Session | None:
        state = None
        for one in self.kept("EVENTS"):
            if one.subject == subjects.event(PROJECT, session):
                state = fold(state, one.data, one.sequence)
        return state

    def feed(self, session: str, given: Input, cutoff: int = 0, cause: str = "") -> None:
        """Let the controller decide on an input."""
        state = self.state(session)
        cause = cause or f"in.{self.clock.now().timestamp()}"
        facts = Facts(PROJECT, session, cause, self.clock.now(), self.online, cutoff)
        decision = decide(state, given, facts)
        if decision.events:
            data = seal(state, PROJECT, session, decision.events, cause, facts.now, self.decider)
            self.put(subjects.event(PROJECT, session), data)

    async def submit(self, session: str, client: str, number: int = 1, **timings: float) -> int:
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
        sequence = self.put(subjects.update(PROJECT, session, number, client, 1), stored.to_bytes())
        await self.count(session, {client: sequence}, number)
        return sequence

    async def count(self, session: str, updates: dict[str, int], number: int = 1) -> None:
        """Count updates in Redis."""
        state = self.state(session)
        assert state is not None
        records = self.servers.connections().records
        await records.put_round(live_round(state))
        await records.count(RoundKey(PROJECT, session, number, 1), updates, 32)

    def complete(self, session: str, counted: Sequence[str], **more: object) -> str:
        """Close and complete the open round; give the new model's digest."""
        state = self.state(session)
        assert state is not None
        assert state.round is not None
        number = state.round.number
        updates = self.kept("UPDATES")
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
        self.put(subjects.validation(PROJECT, client, session, number), report.to_bytes())


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
        keep_updates=chance.random() < 0.5,
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
        orders: list[Input] = [
            PauseSession(),
            ResumeSession(),
            ExtendSession(rounds=1, round_timeout_s=7),
        ]
        if chance.random() < 0.1:
            orders.append(StopSession(reason="enough"))
            orders.append(ArchiveSession())
        return chance.choice(orders)
    if state.round is None:
        if state.look_again is None:
            return ResumeSession()
        number, attempt = state.completed + 1, state.next_attempt
        fired = DeadlineFired(round=number, attempt=attempt, due=state.look_again)
        looks: list[Input] = [ClientsChanged(), fired]
        return chance.choice(looks)
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
