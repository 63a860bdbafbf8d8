"""What the world must look like for a state, and which entry asks for which part of it.

An effect says how things should be, not what to change: doing it twice, or after a crash, gives the same.
Each is made from the newest state, so an old entry performed late cannot undo a newer one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from fedbus_schemas.events import (
    AnyEvent,
    RoundClosing,
    RoundCompleted,
    RoundFailed,
    RoundPruned,
    RoundReopened,
    SessionArchived,
    SessionFailed,
    SessionStopped,
)
from fedbus_schemas.inputs import DeadlineFired
from fedbus_schemas.live import LiveRound
from fedbus_schemas.models import ModelRef
from fedbus_schemas.sessions import SessionSettings
from fedbus_schemas.work import FinishItem

from fedbus_core.rounds.state import RoundPhase, Session, SessionPhase


@dataclass(frozen=True, slots=True)
class KeepLive:
    """Redis knows where the session stands."""

    live: LiveRound


@dataclass(frozen=True, slots=True)
class KeepDeadline:
    """The session's one pending deadline is this (none = there is none)."""

    at: datetime | None
    message: DeadlineFired | None


@dataclass(frozen=True, slots=True)
class KeepMail:
    """Every client whom the state concerns has the mail made from it."""


@dataclass(frozen=True, slots=True)
class AskFinish:
    """The finish item of the open round's closing is in the work queue, or done."""

    item: FinishItem

    @property
    def work_id(self) -> str:
        """The id that keeps the queue from taking it twice."""
        return self.item.name


@dataclass(frozen=True, slots=True)
class SignHead:
    """The chain's head after this entry is signed."""

    number: int
    entry: str


@dataclass(frozen=True, slots=True)
class Forget:
    """An attempt is over: its counts and partials may go."""

    round: int
    attempt: int


@dataclass(frozen=True, slots=True)
class DropUpdates:
    """The stored updates of an attempt that is over are gone; none named = all of the session's."""

    round: int | None = None
    attempt: int | None = None


Effect = KeepLive | KeepDeadline | KeepMail | AskFinish | SignHead | Forget | DropUpdates


def effects(
    state: Session, number: int, entry_digest: str, events: tuple[AnyEvent, ...]
) -> tuple[Effect, ...]:
    """Give what the entry `number` asks for, as of the newest `state`."""
    # First of all: a client that is asked to train may upload the very same bytes once more.
    wanted: list[Effect] = [
        DropUpdates(event.round, event.attempt)
        for event in events
        if isinstance(event, RoundPruned)
    ]
    wanted += [DropUpdates() for event in events if isinstance(event, SessionArchived)]
    if number == state.mail_number:
        wanted.append(KeepMail())
    if any(isinstance(event, RoundClosing) for event in events):
        wanted += _finish(state)
    wanted.append(KeepLive(live_round(state)))
    if not all(isinstance(event, _DEADLINE_STAYS) for event in events):
        wanted.append(deadline(state))
    for event in events:
        if isinstance(event, RoundCompleted | RoundFailed):
            wanted.append(Forget(event.round, event.attempt))
        elif isinstance(event, SessionStopped | SessionFailed) and state.outcome is not None:
            given_up = Forget(state.outcome.number, state.outcome.attempt)
            wanted += [given_up] if given_up not in wanted else []
    if any(isinstance(event, _HEAD_EVENTS) for event in events):
        wanted.append(SignHead(number, entry_digest))
    return tuple(wanted)


def everything(state: Session) -> tuple[Effect, ...]:
    """Give all that the state asks for: after a restart of a server that forgot."""
    return (KeepMail(), *_finish(state), KeepLive(live_round(state)), deadline(state))


def in_order(wanted: Sequence[Effect]) -> Iterator[tuple[Effect, ...]]:
    """Give the effects in groups, each to be performed side by side, one group after the other.

    What is dropped goes before the mail, whose clients may upload the same bytes once more; what nobody
    waits for comes last.
    """
    before = tuple(one for one in wanted if isinstance(one, DropUpdates))
    after = tuple(one for one in wanted if isinstance(one, Forget | SignHead))
    middle = tuple(one for one in wanted if not isinstance(one, DropUpdates | Forget | SignHead))
    yield from filter(None, (before, middle, after))


_DEADLINE_STAYS = (RoundClosing, RoundReopened)
"""Events that leave the pending deadline as it is: writing it again would cost a stored message."""
_HEAD_EVENTS = (RoundCompleted, RoundFailed, SessionStopped, SessionFailed, SessionArchived)


def _finish(state: Session) -> tuple[AskFinish, ...]:
    opened = state.round
    if opened is None or opened.phase is not RoundPhase.CLOSING or opened.closing is None:
        return ()
    item = FinishItem(
        project=state.project,
        session=state.session,
        settings=state.settings,
        opened=opened.opened,
        closing=opened.closing,
        state=state.rule_state,
    )
    return (AskFinish(item),)


def live_round(state: Session) -> LiveRound:
    """Give what Redis must hold of a session."""
    opened = state.round
    if opened is None:
        phase, number, attempt, target = (
            state.phase.value,
            state.completed + 1,
            state.next_attempt,
            0,
        )
    else:
        phase, number, attempt = opened.phase.value, opened.number, opened.attempt
        target = opened.wanted(len(opened.refused))
    return LiveRound(
        project=state.project,
        session=state.session,
        number=state.number,
        phase=phase,
        round=number,
        attempt=attempt,
        target=target,
        batch_size=_batch_size(state, target),
    )


def makes_partials(settings: SessionSettings, model: ModelRef, updates: int) -> bool:
    """Say whether updates are folded ahead of the finish.

    What a single batch holds, the finish folds alone. It reads what rides inside messages anyway, and
    folding that takes less than making a partial of it. A rule that compares updates has no partials.
    """
    return (
        updates > settings.batch_size
        and model.size > settings.inline_bytes_max
        and not settings.parameters.compares
    )


def _batch_size(state: Session, target: int) -> int:
    opened = state.round
    ahead = opened is not None and makes_partials(state.settings, opened.model, target)
    return state.settings.batch_size if ahead else 0


def deadline(state: Session) -> KeepDeadline:
    """Give the one pending deadline of a session."""
    if state.phase is SessionPhase.WAITING and state.look_again is not None:
        at, number, attempt = state.look_again, state.completed + 1, state.next_attempt
    elif state.round is not None:
        at, number, attempt = state.round.deadline, state.round.number, state.round.attempt
    else:
        return KeepDeadline(None, None)
    return KeepDeadline(at, DeadlineFired(round=number, attempt=attempt, due=at))
