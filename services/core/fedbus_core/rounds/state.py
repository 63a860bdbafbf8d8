"""A session's state: the fold of its events, stepped in place by `evolve.evolve` alone."""

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Self

from fedbus_schemas.envelope import GENESIS
from fedbus_schemas.events import (
    Participant,
    RefusedUpdate,
    RoundClosing,
    RoundCompleted,
    RoundFailed,
    RoundOpened,
)
from fedbus_schemas.ids import ClientId
from fedbus_schemas.models import BlobRef, ModelRef, PackageRef
from fedbus_schemas.sessions import SessionSettings
from fedbus_schemas.tasks import Fate

CAUSES_MAX = 1_000
"""Ids of inputs that are remembered, so that one delivered twice is decided once."""


class SessionPhase(StrEnum):
    """Where a session stands. The last three are ends; only `completed` can be extended."""

    RUNNING = "running"
    WAITING = "waiting"
    PAUSED = "paused"
    COMPLETED = "completed"
    STOPPED = "stopped"
    FAILED = "failed"


class RoundPhase(StrEnum):
    """Where the open round stands."""

    COLLECTING = "collecting"
    CLOSING = "closing"


ENDED = frozenset({SessionPhase.COMPLETED, SessionPhase.STOPPED, SessionPhase.FAILED})


@dataclass(slots=True)
class Round:
    """The open attempt of a round: how it was opened, its last closing, and what that closing found."""

    opened: RoundOpened
    deadline: datetime
    phase: RoundPhase = RoundPhase.COLLECTING
    closing: RoundClosing | None = None
    moved: bool = False
    refused: tuple[RefusedUpdate, ...] = ()

    @property
    def number(self) -> int:
        """The round's number."""
        return self.opened.round

    @property
    def attempt(self) -> int:
        """The attempt's number."""
        return self.opened.attempt

    @property
    def model(self) -> ModelRef:
        """The model that the updates start from."""
        return self.opened.model

    @property
    def cohort(self) -> tuple[Participant, ...]:
        """Who was asked, sorted by client."""
        return self.opened.cohort

    @property
    def target(self) -> int:
        """At how many valid updates the round closes."""
        return self.opened.target

    @property
    def minimum(self) -> int:
        """Below how many valid updates the attempt does not count."""
        return self.opened.minimum

    @property
    def step(self) -> int:
        """How often the attempt closed so far."""
        return self.closing.step if self.closing else 0

    @property
    def cutoff(self) -> int:
        """The last closing's cut-off; 0 before the first."""
        return self.closing.cutoff if self.closing else 0

    def wanted(self, refused: int) -> int:
        """Give how many stored updates can reach the target when so many of them are refused."""
        return min(self.target + refused, len(self.cohort))

    def is_attempt(self, number: int, attempt: int) -> bool:
        """Say whether these numbers name this attempt."""
        return (self.number, self.attempt) == (number, attempt)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the last attempt ended: what its receipts are made from. `model` is unset if it made none."""

    number: int
    attempt: int
    trace_id: str
    base: ModelRef
    cohort: tuple[Participant, ...]
    counted: frozenset[ClientId] = frozenset()
    refused: tuple[RefusedUpdate, ...] = ()
    model: ModelRef | None = None

    @classmethod
    def of(cls, opened: RoundOpened, ended: RoundCompleted | RoundFailed | None = None) -> Self:
        """Say how an attempt ended; none = with its session, without a model."""
        completed = ended if isinstance(ended, RoundCompleted) else None
        return cls(
            number=opened.round,
            attempt=opened.attempt,
            trace_id=opened.trace_id,
            base=opened.model,
            cohort=opened.cohort,
            counted=frozenset(completed.counted) if completed else frozenset(),
            refused=ended.refused if ended else (),
            model=completed.model if completed else None,
        )

    def fate(self, client: ClientId) -> tuple[Fate, RefusedUpdate | None]:
        """Say what became of a client's update: a refused one is told so, however the attempt ended."""
        if client in self.counted:
            return Fate.COUNTED, None
        for refused in self.refused:
            if refused.client == client:
                return Fate.REFUSED, refused
        return Fate.GIVEN_UP if self.model is None else Fate.LATE, None


@dataclass(slots=True)
class Session:
    """The state of one session after `number` entries of its log.

    `head` is the SHA-256 of the last entry's stored bytes, `sequence` its place in EVENTS.
    `mail_number` is the last entry that changed what the clients must know; `rule_state` what the
    aggregation rule remembers.
    """

    project: str
    session: str
    settings: SessionSettings
    model: ModelRef
    rounds_total: int
    package: PackageRef | None = None
    phase: SessionPhase = SessionPhase.RUNNING
    completed: int = 0
    round: Round | None = None
    next_attempt: int = 1
    look_again: datetime | None = None
    rest: bool = False
    outcome: Outcome | None = None
    reason: str = ""
    archived: bool = False
    number: int = 0
    head: str = GENESIS
    sequence: int = 0
    mail_number: int = 0
    rule_state: BlobRef | None = None
    causes: deque[str] = field(default_factory=lambda: deque(maxlen=CAUSES_MAX))

    @property
    def ended(self) -> bool:
        """Say whether nothing more will happen by itself."""
        return self.phase in ENDED

    def check(self) -> None:
        """Assert what must hold after every step; a violation is a bug of ours."""
        assert self.completed <= self.rounds_total, "more rounds completed than asked"
        if self.round is not None:
            assert not self.ended, "an ended session has no open round"
            assert self.round.number == self.completed + 1, "the open round is the next one"
            assert self.round.model == self.model, "a round trains from the newest model"
            assert self.round.minimum <= len(self.round.cohort), "a round can reach its minimum"
            assert self.round.target <= len(self.round.cohort), "a round can reach its target"
            members = [member.client for member in self.round.cohort]
            assert members == sorted(set(members)), "a cohort is sorted and names nobody twice"
            if self.round.phase is RoundPhase.CLOSING:
                assert self.round.closing is not None, "a closing round knows its cut-off"
        assert self.ended or not self.archived, "only an ended session is archived"
        assert (self.phase is SessionPhase.WAITING) == (self.look_again is not None)
        if self.phase is SessionPhase.COMPLETED:
            assert self.completed == self.rounds_total, "completed means all rounds are done"
