"""state + input -> events. The whole of a session's behaviour; the rule that closes a round is here.

Inputs come in any order and more than once: one that does not fit the present state decides nothing, and
says why. Time, the clients online and the cut-off are arguments.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never

from fedbus_schemas.events import (
    AnyEvent,
    ClosingReason,
    DeadlineMoved,
    FailureReason,
    Participant,
    RefusedUpdate,
    RoundClosing,
    RoundCompleted,
    RoundFailed,
    RoundOpened,
    RoundPruned,
    RoundReopened,
    SessionArchived,
    SessionCompleted,
    SessionExtended,
    SessionFailed,
    SessionPaused,
    SessionResumed,
    SessionStarted,
    SessionStopped,
    SessionWaiting,
)
from fedbus_schemas.inputs import ClientsChanged, DeadlineFired, Input, TargetReached
from fedbus_schemas.models import ModelRef
from fedbus_schemas.refusals import Refusal, RefusalCode
from fedbus_schemas.sessions import (
    COHORT_SIZE_MAX,
    ROUNDS_MAX,
    ArchiveSession,
    BelowMinimum,
    ExtendSession,
    PauseSession,
    ResumeSession,
    SessionSettings,
    StartSession,
    StopSession,
)
from fedbus_schemas.traces import trace_id
from fedbus_schemas.work import FinishResult

from fedbus_core.rounds.cohort import choose
from fedbus_core.rounds.evolve import with_timeout
from fedbus_core.rounds.state import Round, RoundPhase, Session, SessionPhase

LATE_TOLERANCE = timedelta(seconds=5)
"""A deadline that fires later than this was held up by the bus, not by the clients."""
LOOK_AGAIN = timedelta(minutes=10)
"""A waiting session looks for clients at least this often; a client that comes online wakes it at once."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the shell found out before the decision.

    `now` is when the server stored the input, `online` who can be asked, `cutoff` the sequence of the
    last update stored for the open attempt (0 = none), `stored` how many there are at least.
    """

    project: str
    session: str
    cause: str
    now: datetime
    online: tuple[Participant, ...] = ()
    cutoff: int = 0
    stored: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be appended. No events: nothing changes, and `refusal` says why."""

    events: tuple[AnyEvent, ...] = ()
    refusal: Refusal | None = None


def decide(state: Session | None, given: Input, facts: Facts) -> Decision:
    """Decide on one input. Pure: the same arguments give the same events."""
    if state is None:
        return _start(given, facts)
    if facts.cause in state.causes:
        return _nothing(RefusalCode.ALREADY_EXISTS, "this input was decided before")
    match given:
        case StartSession():
            return _nothing(RefusalCode.ALREADY_EXISTS, f"session {state.session} exists")
        case ArchiveSession():
            return _archive(state)
        case PauseSession() | ResumeSession() | StopSession() | ExtendSession():
            return _command(state, given, facts)
        case DeadlineFired() if state.phase is SessionPhase.WAITING:
            return _look(state, given, facts)
        case TargetReached() | DeadlineFired() | FinishResult():
            return _in_round(state, given, facts)
        case ClientsChanged():
            return _clients(state, facts)
        case _:
            assert_never(given)


def _start(given: Input, facts: Facts) -> Decision:
    if not isinstance(given, StartSession):
        return _nothing(RefusalCode.SESSION_UNKNOWN, f"session {facts.session}")
    started = SessionStarted(
        project=facts.project,
        session=facts.session,
        settings=given.settings,
        model=given.model,
        package=given.package,
    )
    opened = _open(given.settings, given.model, facts, 1, 1)
    return Decision((started, *opened))


def _command(
    state: Session, given: PauseSession | ResumeSession | StopSession | ExtendSession, facts: Facts
) -> Decision:
    extendable = isinstance(given, ExtendSession) and state.phase is SessionPhase.COMPLETED
    if state.archived:
        return _nothing(RefusalCode.SESSION_ENDED, "the session is archived")
    if state.ended and not extendable:
        return _nothing(RefusalCode.SESSION_ENDED, f"the session is {state.phase}")
    match given:
        case PauseSession():
            if state.phase is SessionPhase.PAUSED:
                return _nothing(RefusalCode.NOT_POSSIBLE_NOW, "the session is paused")
            return Decision((SessionPaused(),))
        case ResumeSession():
            if state.phase is not SessionPhase.PAUSED:
                return _nothing(RefusalCode.NOT_POSSIBLE_NOW, f"the session is {state.phase}")
            following = () if state.round else _next_round(state, facts)
            return Decision((SessionResumed(), *following))
        case StopSession():
            stopped = SessionStopped(reason=given.reason)
            return Decision((stopped, *_pruned(state, state.round)))
        case ExtendSession():
            return _extend(state, given, facts)
        case _:
            assert_never(given)


def _extend(state: Session, given: ExtendSession, facts: Facts) -> Decision:
    total = state.rounds_total + given.rounds
    if total > ROUNDS_MAX:
        return _nothing(RefusalCode.INVALID, f"rounds: {total} is above {ROUNDS_MAX}")
    extended = SessionExtended(rounds=total, round_timeout_s=given.round_timeout_s)
    if state.phase is not SessionPhase.COMPLETED:
        return Decision((extended,))
    settings = with_timeout(state.settings, given.round_timeout_s)
    following = _open(settings, state.model, facts, state.completed + 1, 1)
    return Decision((extended, *following))


def _archive(state: Session) -> Decision:
    if state.archived:
        return _nothing(RefusalCode.ALREADY_EXISTS, "the session is archived")
    if not state.ended:
        return _nothing(
            RefusalCode.NOT_POSSIBLE_NOW, f"the session is {state.phase}: stop it first"
        )
    return Decision((SessionArchived(),))


def _pruned(state: Session, over: Round | None) -> tuple[AnyEvent, ...]:
    """Let go of the updates of an attempt that is over, where the settings ask for it."""
    if over is None or state.settings.keep_updates:
        return ()
    return (RoundPruned(round=over.number, attempt=over.attempt),)


def _clients(state: Session, facts: Facts) -> Decision:
    if state.phase is not SessionPhase.WAITING or state.rest:
        return _nothing(RefusalCode.NOT_POSSIBLE_NOW, "the session does not wait for clients")
    if len(facts.online) < state.settings.minimum:
        return _nothing(RefusalCode.NOT_POSSIBLE_NOW, "still too few clients")
    return Decision(_next_round(state, facts))


def _in_round(
    state: Session, given: TargetReached | DeadlineFired | FinishResult, facts: Facts
) -> Decision:
    opened = state.round
    if opened is None or not opened.is_attempt(given.round, given.attempt):
        return _nothing(
            RefusalCode.ROUND_CLOSED, f"round {given.round}.{given.attempt} is not open"
        )
    match given:
        case TargetReached():
            return _target(opened, facts)
        case DeadlineFired():
            return _deadline(state, opened, given, facts)
        case FinishResult():
            return _finished(state, opened, given, facts)
        case _:
            assert_never(given)


def _target(opened: Round, facts: Facts) -> Decision:
    if opened.phase is not RoundPhase.COLLECTING:
        return _nothing(RefusalCode.NOT_POSSIBLE_NOW, "the round is closing already")
    if facts.cutoff <= opened.cutoff:
        return _nothing(RefusalCode.NOT_POSSIBLE_NOW, "nothing was stored since the last closing")
    return Decision((_closing(opened, facts.cutoff, ClosingReason.TARGET),))


def _deadline(state: Session, opened: Round, given: DeadlineFired, facts: Facts) -> Decision:
    if given.due != opened.deadline:
        return _nothing(RefusalCode.NOT_POSSIBLE_NOW, "the deadline was moved")
    if opened.phase is not RoundPhase.COLLECTING:
        return _nothing(RefusalCode.NOT_POSSIBLE_NOW, "the round is closing already")
    grace = timedelta(seconds=state.settings.grace_s)
    if grace and not opened.moved and facts.now - opened.deadline > LATE_TOLERANCE:
        later = facts.now + grace
        moved = DeadlineMoved(round=opened.number, attempt=opened.attempt, deadline=later)
        return Decision((moved,))
    if facts.cutoff == 0:
        return Decision(_attempt_failed(state, opened, facts, 0, ()))
    return Decision((_closing(opened, facts.cutoff, ClosingReason.DEADLINE),))


def _look(state: Session, given: DeadlineFired, facts: Facts) -> Decision:
    """A waiting session's time to look again has come."""
    if given.due != state.look_again:
        return _nothing(RefusalCode.NOT_POSSIBLE_NOW, "the next look comes later")
    if (
        len(facts.online) < state.settings.minimum
        and state.settings.below_minimum is BelowMinimum.FAIL
    ):
        detail = f"{len(facts.online)} clients online, {state.settings.minimum} needed"
        failed = SessionFailed(
            round=state.completed + 1, reason=FailureReason.NO_CLIENTS, detail=detail
        )
        return Decision((failed,))
    return Decision(_next_round(state, facts))


def _finished(state: Session, opened: Round, given: FinishResult, facts: Facts) -> Decision:
    if opened.phase is RoundPhase.COLLECTING or opened.closing is None or opened.step != given.step:
        return _nothing(RefusalCode.NOT_POSSIBLE_NOW, f"step {given.step} is not the one under way")
    if given.failure:
        return Decision(_functions_failed(state, opened, given))
    valid = len(given.counted)
    # Nothing more can come once time is up or everyone has answered.
    final = (
        opened.closing.reason is ClosingReason.DEADLINE
        or facts.now >= opened.deadline
        or valid + len(given.refused) >= len(opened.cohort)
    )
    if valid >= opened.target or (valid >= opened.minimum and final):
        return Decision(_completed(state, opened, given, facts))
    if final:
        return Decision(_attempt_failed(state, opened, facts, valid, given.refused))
    reopened = RoundReopened(
        round=opened.number,
        attempt=opened.attempt,
        step=opened.step,
        valid=valid,
        refused=given.refused,
    )
    # Updates that came while the round was closing caused no notice, and perhaps none comes after them.
    if facts.cutoff > opened.cutoff and facts.stored >= opened.wanted(len(given.refused)):
        return Decision((reopened, _closing(opened, facts.cutoff, ClosingReason.TARGET)))
    return Decision((reopened,))


def _completed(
    state: Session, opened: Round, given: FinishResult, facts: Facts
) -> tuple[AnyEvent, ...]:
    assert given.model is not None
    assert given.included is not None
    completed = RoundCompleted(
        round=opened.number,
        attempt=opened.attempt,
        step=opened.step,
        model=given.model,
        included=given.included,
        counted=given.counted,
        weight=given.weight,
        refused=given.refused,
        rule=given.rule,
        metrics=given.metrics,
        workers=given.workers,
        timings=given.timings,
        state=given.state,
    )
    ended = (completed, *_pruned(state, opened))
    if opened.number >= state.rounds_total:
        return *ended, SessionCompleted(rounds=opened.number, model=given.model.digest)
    if state.phase is SessionPhase.PAUSED:
        return ended
    return *ended, *_open(state.settings, given.model, facts, opened.number + 1, 1)


def _attempt_failed(
    state: Session, opened: Round, facts: Facts, valid: int, refused: tuple[RefusedUpdate, ...]
) -> tuple[AnyEvent, ...]:
    """End an attempt below the minimum, and say in the same entry what comes next."""
    failed = RoundFailed(
        round=opened.number,
        attempt=opened.attempt,
        reason=FailureReason.BELOW_MINIMUM,
        valid=valid,
        minimum=opened.minimum,
        refused=refused,
    )
    ended = (failed, *_pruned(state, opened))
    if state.phase is SessionPhase.PAUSED:
        return ended
    if opened.attempt % state.settings.attempts_max != 0:
        return *ended, *_next_round(state, facts)
    if state.settings.below_minimum is BelowMinimum.FAIL:
        detail = (
            f"{valid} valid updates of {opened.minimum} needed, after {opened.attempt} attempts"
        )
        ending = SessionFailed(
            round=opened.number, reason=FailureReason.BELOW_MINIMUM, detail=detail
        )
        return *ended, ending
    return *ended, _waiting(state.settings, facts, opened.number, state.next_attempt, rest=True)


def _functions_failed(state: Session, opened: Round, given: FinishResult) -> tuple[AnyEvent, ...]:
    """End the session where the operator's code failed: the clients' work would come to nothing again."""
    reason, detail = FailureReason.SERVER_FUNCTIONS, given.failure
    failed = RoundFailed(
        round=opened.number,
        attempt=opened.attempt,
        reason=reason,
        valid=len(given.counted),
        minimum=opened.minimum,
        refused=given.refused,
        detail=detail,
    )
    ending = SessionFailed(round=opened.number, reason=reason, detail=detail)
    return failed, *_pruned(state, opened), ending


def _next_round(state: Session, facts: Facts) -> tuple[AnyEvent, ...]:
    return _open(state.settings, state.model, facts, state.completed + 1, state.next_attempt)


def _open(
    settings: SessionSettings, model: ModelRef, facts: Facts, number: int, attempt: int
) -> tuple[AnyEvent, ...]:
    """Open an attempt with those online, or wait when they are too few."""
    if len(facts.online) < settings.minimum:  # fewer could never reach it
        return (_waiting(settings, facts, number, attempt, rest=False),)
    most = settings.invited or COHORT_SIZE_MAX
    cohort = choose(facts.online, most, settings.seed, number, attempt)
    return (
        RoundOpened(
            round=number,
            attempt=attempt,
            model=model,
            cohort=cohort,
            target=min(settings.target or len(cohort), len(cohort)),
            minimum=settings.minimum,
            deadline=facts.now + timedelta(seconds=settings.round_timeout_s),
            trace_id=trace_id(facts.project, facts.session, number, attempt),
        ),
    )


def _waiting(
    settings: SessionSettings, facts: Facts, number: int, attempt: int, *, rest: bool
) -> SessionWaiting:
    # A session that fails below the minimum gives the clients one round's time to come online.
    patient = settings.below_minimum is BelowMinimum.WAIT and not rest
    pause = LOOK_AGAIN if patient else timedelta(seconds=settings.round_timeout_s)
    return SessionWaiting(
        round=number,
        attempt=attempt,
        online=len(facts.online),
        needed=settings.minimum,
        look_again=facts.now + pause,
        rest=rest,
    )


def _closing(opened: Round, cutoff: int, reason: ClosingReason) -> RoundClosing:
    return RoundClosing(
        round=opened.number,
        attempt=opened.attempt,
        step=opened.step + 1,
        cutoff=cutoff,
        reason=reason,
    )


def _nothing(code: RefusalCode, detail: str) -> Decision:
    return Decision((), Refusal(code=code, detail=detail))
