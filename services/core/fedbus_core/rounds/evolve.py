"""state + event -> state. No decision is taken here: whatever the log says has happened."""

from typing import assert_never

from fedbus_schemas.events import (
    AnyEvent,
    DeadlineMoved,
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
from fedbus_schemas.sessions import SessionSettings

from fedbus_core.rounds.state import Outcome, Round, RoundPhase, Session, SessionPhase


def begin(event: SessionStarted) -> Session:
    """Make the state that a session's first event gives."""
    return Session(
        project=event.project,
        session=event.session,
        settings=event.settings,
        model=event.model,
        rounds_total=event.settings.rounds,
        package=event.package,
    )


def evolve(state: Session, event: AnyEvent) -> None:
    """Step the state by one event."""
    match event:
        case SessionStarted():
            raise AssertionError("a session starts once")
        case RoundOpened() | DeadlineMoved() | RoundClosing() | RoundReopened():
            _evolve_round(state, event)
        case RoundCompleted() | RoundFailed():
            _end_attempt(state, event)
        case RoundPruned():
            pass  # what is stored is no part of the state
        case SessionArchived():
            state.archived = True
        case (
            SessionWaiting()
            | SessionPaused()
            | SessionResumed()
            | SessionExtended()
            | SessionCompleted()
            | SessionStopped()
            | SessionFailed()
        ):
            _evolve_session(state, event)
        case _:
            assert_never(event)


def _evolve_round(
    state: Session, event: RoundOpened | DeadlineMoved | RoundClosing | RoundReopened
) -> None:
    if isinstance(event, RoundOpened):
        state.round = Round(opened=event, deadline=event.deadline)
        state.next_attempt = event.attempt + 1
        state.look_again, state.rest = None, False
        if state.phase is SessionPhase.WAITING:
            state.phase = SessionPhase.RUNNING
        state.mail_number = state.number
        return
    opened = state.round
    assert opened is not None
    assert opened.is_attempt(event.round, event.attempt)
    match event:
        case DeadlineMoved():
            opened.deadline, opened.moved = event.deadline, True
            state.mail_number = state.number
        case RoundClosing():
            opened.phase, opened.closing = RoundPhase.CLOSING, event
        case RoundReopened():
            opened.phase = RoundPhase.COLLECTING
            opened.refused = event.refused
        case _:
            assert_never(event)


def _end_attempt(state: Session, event: RoundCompleted | RoundFailed) -> None:
    opened = state.round
    assert opened is not None
    assert opened.is_attempt(event.round, event.attempt)
    state.outcome = Outcome.of(opened.opened, event)
    if isinstance(event, RoundCompleted):
        state.model = event.model
        state.rule_state = event.state
        state.completed = event.round
        state.next_attempt = 1
    state.round = None
    state.mail_number = state.number


def _evolve_session(
    state: Session,
    event: (
        SessionWaiting
        | SessionPaused
        | SessionResumed
        | SessionExtended
        | SessionCompleted
        | SessionStopped
        | SessionFailed
    ),
) -> None:
    match event:
        case SessionWaiting():
            state.phase = SessionPhase.WAITING
            state.look_again, state.rest = event.look_again, event.rest
            return
        case SessionPaused():
            state.phase = SessionPhase.PAUSED
        case SessionResumed():
            state.phase = SessionPhase.RUNNING
        case SessionExtended():
            state.rounds_total = event.rounds
            state.settings = with_timeout(state.settings, event.round_timeout_s)
            if state.phase is SessionPhase.COMPLETED:
                state.phase = SessionPhase.RUNNING
            return
        case SessionCompleted():
            state.phase = SessionPhase.COMPLETED
        case SessionStopped():
            state.phase, state.reason = SessionPhase.STOPPED, event.reason
            _give_up(state)
        case SessionFailed():
            state.phase, state.reason = SessionPhase.FAILED, event.detail or event.reason
            _give_up(state)
        case _:
            assert_never(event)
    state.look_again, state.rest = None, False


def with_timeout(settings: SessionSettings, round_timeout_s: float | None) -> SessionSettings:
    """Give the settings with another round timeout; none = as they are."""
    if round_timeout_s is None:
        return settings
    return settings.model_copy(update={"round_timeout_s": round_timeout_s})


def _give_up(state: Session) -> None:
    """End the open round without a model; its clients get the receipt `given_up`."""
    if state.round is not None:
        state.outcome = Outcome.of(state.round.opened)
        state.round = None
    state.mail_number = state.number
