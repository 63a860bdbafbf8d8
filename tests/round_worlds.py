"""One session in memory for tests: its log as bytes, the updates stored, who is online, the time.

`RoundWorld` decides, seals, folds and derives effects as the services do, without any of them.
"""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from fedbus_core.rounds.decide import Decision, Facts, decide
from fedbus_core.rounds.effects import Effect, effects
from fedbus_core.rounds.log import fold, read_entry, seal
from fedbus_core.rounds.state import Round, Session
from fedbus_schemas.events import Participant, RefusedUpdate, RoundClosing
from fedbus_schemas.inputs import DeadlineFired, Input, TargetReached
from fedbus_schemas.models import BlobRef, ModelRef
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.sessions import SessionSettings, StartSession
from fedbus_schemas.work import FinishResult

Events: TypeAlias = tuple[Any, ...]  # a test that reads a field has said which event it expects

PROJECT, SESSION = "default", "s-world"
START = datetime(2026, 1, 1, tzinfo=UTC)
TIMEOUT_S = 60.0


def client(letter: str) -> str:
    """Give a client's pseudonym by its letter."""
    return "c" + letter * 16


def participant(letter: str) -> Participant:
    """Give a client as a member of a cohort."""
    return Participant(client=client(letter), key=letter.upper() * 43)


def model(number: int) -> ModelRef:
    """Give the model that round `number` makes; 0 is the initial one."""
    digest = hashlib.sha256(f"model {number}".encode()).hexdigest()
    return ModelRef(digest=digest, size=1_000, layout="1" * 64, exponents=(0,))


class RoundWorld:
    """A session that is driven step by step."""

    def __init__(self, online: str = "abc") -> None:
        self.online = online
        self.now = START
        self.state: Session | None = None
        self.log: list[bytes] = []
        self.stored: dict[str, int] = {}
        """Updates of the open attempt: the client's letter and the sequence."""
        self.sequence = 0
        self.inputs = 0
        self.last: tuple[Decision, tuple[Effect, ...]] = (Decision(), ())

    def start(self, **settings: object) -> Events:
        """Start the session; each test says only the settings that it is about."""
        wanted = SessionSettings.model_validate({"round_timeout_s": TIMEOUT_S, **settings})
        return self.give(StartSession(session=SESSION, settings=wanted, model=model(0)))

    @property
    def session(self) -> Session:
        """The state of a session that was started."""
        assert self.state is not None
        return self.state

    @property
    def round(self) -> Round:
        """The open round."""
        assert self.session.round is not None
        return self.session.round

    @property
    def refusal(self) -> RefusalCode | None:
        """Why the last input decided nothing."""
        refusal = self.last[0].refusal
        return refusal.code if refusal else None

    def facts(self, cause: str) -> Facts:
        """Give what the shell would find out."""
        online = tuple(participant(letter) for letter in sorted(self.online))
        cutoff = max(self.stored.values(), default=0)
        return Facts(PROJECT, SESSION, cause, self.now, online, cutoff, len(self.stored))

    def give(self, given: Input, cause: str | None = None) -> Events:
        """Decide on an input and append what is decided; give the events."""
        self.inputs += 1
        decision = decide(self.state, given, self.facts(cause or f"i{self.inputs}"))
        assert bool(decision.events) != bool(decision.refusal)
        if decision.events:
            data = seal(
                self.state, PROJECT, SESSION, decision.events, cause or f"i{self.inputs}", self.now
            )
            before = self.state.round.opened if self.state and self.state.round else None
            self.log.append(data)
            self.state = fold(self.state, data, len(self.log))
            entry, events = read_entry(data)
            assert events == decision.events
            digest = hashlib.sha256(data).hexdigest()
            self.last = decision, effects(self.state, entry.number, digest, events)
            if self.state.round is None or self.state.round.opened is not before:
                self.stored = {}
        else:
            self.last = decision, ()
        return decision.events

    def later(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)

    def store(self, letters: Iterable[str]) -> None:
        """Updates of these clients are stored for the open attempt."""
        for letter in letters:
            self.sequence += 1
            self.stored.setdefault(letter, self.sequence)

    def target(self) -> Events:
        """A combiner says that the target is reached."""
        return self.give(TargetReached(round=self.round.number, attempt=self.round.attempt))

    def deadline(self, after_s: float = 0.0) -> Events:
        """The pending deadline fires, `after_s` later than it was due."""
        due = self.round.deadline if self.session.round else self.session.look_again
        assert due is not None
        number, attempt = self.session.completed + 1, self.session.next_attempt
        if self.session.round:
            number, attempt = self.round.number, self.round.attempt
        self.now = max(self.now, due + timedelta(seconds=after_s))
        return self.give(DeadlineFired(round=number, attempt=attempt, due=due))

    def result(self, bad: Iterable[str] = (), closing: RoundClosing | None = None) -> FinishResult:
        """Make what a combiner finds for a closing (none = the last one); `bad` are refused."""
        closing = closing or self.round.closing
        assert closing is not None
        letters = sorted(one for one, at in self.stored.items() if at <= closing.cutoff)
        return result(closing, [one for one in letters if one not in bad], sorted(bad))

    def finish(self, bad: Iterable[str] = ()) -> Events:
        """A combiner finishes the closing under way."""
        return self.give(self.result(bad))


def result(closing: RoundClosing, good: Sequence[str], bad: Sequence[str] = ()) -> FinishResult:
    """Make the result of a closing by the letters of those counted and those refused."""
    return FinishResult(
        round=closing.round,
        attempt=closing.attempt,
        step=closing.step,
        model=model(closing.round) if good else None,
        included=BlobRef(digest="2" * 64, size=1) if good else None,
        counted=tuple(client(letter) for letter in good),
        weight=len(good),
        refused=tuple(
            RefusedUpdate(client=client(letter), code=RefusalCode.NOT_FINITE, detail="a NaN")
            for letter in bad
        ),
        rule="fedavg/1",
    )
