"""The documents that the projection makes: a session, and its rounds with their attempts."""

from fedbus_core.rounds.state import RoundPhase, SessionPhase
from fedbus_schemas.events import ClosingReason, FinishTimings, RefusedUpdate
from fedbus_schemas.ids import (
    ClientId,
    InstanceName,
    Metrics,
    ProjectId,
    RoundNumber,
    SessionId,
    Sha256,
)
from fedbus_schemas.models import BlobRef, ModelRef, PackageRef
from fedbus_schemas.sessions import SessionSettings
from fedbus_schemas.views import Outcome, RunOutcome
from fedbus_schemas.wire import Message
from pydantic import AwareDatetime, Field

ATTEMPTS_KEPT_MAX = 8
"""Attempts of one round that its document keeps; the oldest go first."""
RUNS_KEPT_MAX = 100
"""Runs that a session's document remembers, the newest."""
WORKERS_KEPT_MAX = 64
"""Combiners, and controllers, that a session's document remembers; the one not seen for longest goes first."""


class Attempt(Message):
    """One attempt of a round. `…_asked` is when the input was stored that led to the entry."""

    attempt: int
    base: ModelRef
    cohort: tuple[ClientId, ...]
    target: int
    minimum: int
    deadline: AwareDatetime
    trace_id: str
    opened: AwareDatetime
    outcome: Outcome = Outcome.OPEN
    phase: RoundPhase = RoundPhase.COLLECTING
    reason: str = ""
    closed_by: ClosingReason | None = None
    closing_asked: AwareDatetime | None = None
    closing: AwareDatetime | None = None
    cutoff: int = 0
    ended_asked: AwareDatetime | None = None
    ended: AwareDatetime | None = None
    counted: tuple[ClientId, ...] = ()
    refused: tuple[RefusedUpdate, ...] = ()
    weight: int = 0
    model: ModelRef | None = None
    included: BlobRef | None = None
    state: BlobRef | None = None
    rule: str = ""
    workers: tuple[InstanceName, ...] = ()
    metrics: Metrics = Field(default={})
    timings: FinishTimings = FinishTimings()
    pruned: bool = False


class RoundDocument(Message):
    """A round with its attempts, oldest first. `genesis` tells apart two logs under one id."""

    genesis: Sha256
    number: RoundNumber
    attempts: tuple[Attempt, ...]

    @property
    def last(self) -> Attempt:
        """The newest attempt."""
        return self.attempts[-1]


class Worker(Message):
    """A combiner or controller, and the last round of this session that it worked or decided on."""

    name: InstanceName
    round: RoundNumber
    seen: AwareDatetime


class Run(Message):
    """The rounds that one command asked for: the start, or an extension. `ended` with its last round."""

    number: int
    first_round: RoundNumber
    last_round: RoundNumber
    round_timeout_s: float
    started: AwareDatetime
    ended: AwareDatetime | None = None
    outcome: RunOutcome = RunOutcome.RUNNING
    model: Sha256 | None = None


class SessionDocument(Message):
    """A session after `number` entries; `head` is the SHA-256 of the last one, `sequence` its place."""

    project: ProjectId
    session: SessionId
    genesis: Sha256
    number: int
    sequence: int
    head: Sha256
    settings: SessionSettings
    initial: ModelRef
    model: ModelRef
    phase: SessionPhase = SessionPhase.RUNNING
    reason: str = ""
    completed: int = 0
    rounds_total: int
    package: PackageRef | None = None
    look_again: AwareDatetime | None = None
    latest: RoundDocument | None = None
    metrics: Metrics = Field(default={})
    workers: tuple[Worker, ...] = ()
    controllers: tuple[Worker, ...] = ()
    runs: tuple[Run, ...]
    archived: AwareDatetime | None = None
    created: AwareDatetime
    updated: AwareDatetime

    @property
    def open(self) -> Attempt | None:
        """The attempt under way."""
        latest = self.latest.last if self.latest else None
        return latest if latest is not None and latest.outcome is Outcome.OPEN else None
