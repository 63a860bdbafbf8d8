"""Events that could not have been decided in their state are told, each with its reason."""

from datetime import timedelta

import pytest
from fedbus_core.audit.legality import problems
from fedbus_core.rounds.state import Session
from fedbus_schemas.events import (
    AnyEvent,
    DeadlineMoved,
    FailureReason,
    RoundReopened,
    SessionCompleted,
    SessionExtended,
    SessionFailed,
    SessionPaused,
    SessionResumed,
    SessionStarted,
    SessionStopped,
    SessionWaiting,
)
from fedbus_schemas.sessions import PauseSession, SessionSettings

from tests.audit_worlds import CLIENTS, SESSION, START, Maker, folds, three_rounds

LATER = START + timedelta(days=1)


def collecting() -> Session:
    maker = Maker(SessionSettings(rounds=2, minimum=1, target=1))
    assert maker.state is not None
    return maker.state


def paused() -> Session:
    maker = Maker(SessionSettings(rounds=2, minimum=1, target=1))
    maker.store(CLIENTS[0], 1)
    maker.close()
    maker.give(PauseSession())
    maker.finish()
    assert maker.state is not None
    return maker.state


def waiting() -> Session:
    maker = Maker(SessionSettings(rounds=2, minimum=1, target=1))
    maker.store(CLIENTS[0], 1)
    maker.close()
    maker.online = ()
    maker.finish()
    assert maker.state is not None
    return maker.state


def ended() -> Session:
    return folds(three_rounds().log)


def says(state: Session, event: AnyEvent) -> list[str]:
    return list(problems(state, event))


def test_what_fits_is_legal() -> None:
    opened = collecting()
    moved = DeadlineMoved(round=1, attempt=1, deadline=LATER)
    assert not says(opened, moved)
    assert not says(opened, SessionPaused())
    assert not says(opened, SessionStopped(reason="enough"))
    assert not says(paused(), SessionResumed())
    assert not says(ended(), SessionExtended(rounds=4))
    assert not says(
        waiting(), SessionWaiting(round=2, attempt=1, online=0, needed=1, look_again=LATER)
    )
    assert not says(waiting(), SessionFailed(round=2, reason=FailureReason.NO_CLIENTS))


def test_a_session_starts_once() -> None:
    state = collecting()
    event = SessionStarted(
        project="default", session=SESSION, settings=state.settings, model=state.model
    )
    assert says(state, event) == ["a session starts once"]


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (DeadlineMoved(round=2, attempt=1, deadline=LATER), "round 2 attempt 1 is not open"),
        (DeadlineMoved(round=1, attempt=1, deadline=START), "an earlier time"),
        (RoundReopened(round=1, attempt=1, step=1, valid=0), "step 1 is not closing"),
        (SessionResumed(), "it is not paused"),
        (SessionExtended(rounds=2), "2 rounds are no more than before"),
        (SessionCompleted(rounds=2, model="0" * 64), "0 of 2 rounds are completed"),
        (SessionFailed(round=2, reason=FailureReason.NO_CLIENTS), "round 1 is the next"),
        (
            SessionWaiting(round=1, attempt=2, online=0, needed=1, look_again=LATER),
            "an open round or a pause does not wait",
        ),
    ],
)
def test_what_an_open_round_does_not_allow(event: AnyEvent, reason: str) -> None:
    assert any(reason in text for text in says(collecting(), event))


def test_a_deadline_moves_once() -> None:
    state = collecting()
    assert state.round is not None
    state.round.moved = True
    moved = DeadlineMoved(round=1, attempt=1, deadline=LATER)
    assert says(state, moved) == ["the deadline cannot be moved now"]


def test_a_paused_session_opens_nothing_and_is_paused_once() -> None:
    opened = collecting().round
    assert opened is not None
    assert "the session is paused" in says(paused(), opened.opened)
    assert says(paused(), SessionPaused()) == ["it is paused already"]


def test_a_waiting_session_waits_for_the_next_round() -> None:
    event = SessionWaiting(round=3, attempt=1, online=0, needed=1, look_again=LATER)
    assert says(waiting(), event) == ["(2, 1) is the next round and attempt"]


@pytest.mark.parametrize("event", [SessionPaused(), SessionStopped(reason="x")])
def test_an_ended_session_can_only_be_extended(event: AnyEvent) -> None:
    assert says(ended(), event) == ["the session is completed"]
    assert "no more than before" in says(ended(), SessionExtended(rounds=3))[0]
