"""The state's own invariants, and that folding takes no second look at what happened."""

from dataclasses import replace

import pytest
from fedbus_core.rounds.evolve import evolve
from fedbus_core.rounds.state import Round, RoundPhase, SessionPhase
from fedbus_schemas.events import RoundReopened, SessionStarted
from fedbus_schemas.sessions import SessionSettings

from tests.round_worlds import PROJECT, SESSION, START, RoundWorld, model, participant


def world() -> RoundWorld:
    made = RoundWorld("abc")
    made.start(rounds=2, minimum=2)
    return made


def opened(made: RoundWorld, **changes: object) -> Round:
    event = made.round.opened.model_copy(update=changes)
    return Round(opened=event, deadline=event.deadline)


@pytest.mark.parametrize(
    "changes",
    [
        {"round": 2},
        {"model": model(5)},
        {"minimum": 4},
        {"target": 4},
        {"cohort": (participant("b"), participant("a"), participant("c"))},
        {"cohort": (participant("a"), participant("a"), participant("b"))},
    ],
    ids=["another round", "another model", "minimum", "target", "unsorted", "twice"],
)
def test_an_impossible_round_is_our_bug(changes: dict[str, object]) -> None:
    made = world()
    made.session.check()
    made.session.round = opened(made, **changes)
    with pytest.raises(AssertionError):
        made.session.check()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("completed", 3),
        ("phase", SessionPhase.STOPPED),
        ("phase", SessionPhase.WAITING),
        ("look_again", START),
    ],
)
def test_an_impossible_session_is_our_bug(name: str, value: object) -> None:
    made = world()
    setattr(made.session, name, value)
    with pytest.raises(AssertionError):
        made.session.check()


def test_a_completed_session_did_all_its_rounds() -> None:
    made = world()
    made.session.round, made.session.phase = None, SessionPhase.COMPLETED
    with pytest.raises(AssertionError, match="all rounds"):
        made.session.check()


def test_a_closing_round_knows_its_cut_off() -> None:
    made = world()
    made.session.round = replace(made.round, phase=RoundPhase.CLOSING)
    with pytest.raises(AssertionError, match="cut-off"):
        made.session.check()


def test_a_session_starts_once() -> None:
    started = SessionStarted(
        project=PROJECT, session=SESSION, settings=SessionSettings(), model=model(0)
    )
    with pytest.raises(AssertionError, match="once"):
        evolve(world().session, started)


def test_an_event_of_another_attempt_is_our_bug() -> None:
    with pytest.raises(AssertionError):
        evolve(world().session, RoundReopened(round=1, attempt=2, step=1, valid=0))


def test_before_the_first_closing_there_is_no_step() -> None:
    made = world()
    assert (made.round.step, made.round.cutoff) == (0, 0)
    made.store("abc")
    made.target()
    assert (made.round.step, made.round.cutoff) == (1, 3)
