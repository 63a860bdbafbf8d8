"""What the world must look like: the same for the same state, and a way on from every state."""

from datetime import timedelta
from typing import Any

import pytest
from fedbus_core.rounds.decide import LOOK_AGAIN
from fedbus_core.rounds.effects import (
    AskFinish,
    Effect,
    Forget,
    KeepDeadline,
    KeepLive,
    KeepMail,
    SignHead,
    deadline,
    effects,
    everything,
    live_round,
)
from fedbus_core.rounds.log import fold, read_entry
from fedbus_core.rounds.state import RoundPhase, Session, SessionPhase
from fedbus_schemas.events import RoundClosing, RoundReopened
from fedbus_schemas.inputs import DeadlineFired
from fedbus_schemas.sessions import ExtendSession, PauseSession, ResumeSession, StopSession

from tests.round_worlds import START, TIMEOUT_S, RoundWorld


def lived() -> RoundWorld:
    """Live through every kind of event."""
    world = RoundWorld("a")
    world.start(rounds=2, minimum=2, target=3, attempts_max=1)
    world.online = "abcd"
    world.deadline()
    world.store("a")
    world.deadline(600)
    world.deadline()
    world.finish(bad="a")
    world.deadline()
    world.store("abc")
    world.target()
    world.finish(bad="a")
    world.store("d")
    world.target()
    world.give(PauseSession())
    world.finish(bad="a")
    world.give(ResumeSession())
    world.give(ExtendSession(rounds=1))
    for _ in range(2):
        world.store("abcd")
        world.target()
        world.finish()
    world.give(ExtendSession(rounds=1))
    world.give(StopSession())
    return world


def states() -> list[Session]:
    """Give the state after every entry of a full life."""
    log = lived().log
    found = []
    for length in range(1, len(log) + 1):
        state = None
        for place, data in enumerate(log[:length], start=1):
            state = fold(state, data, place)
        assert state is not None
        found.append(state)
    return found


def kinds(wanted: tuple[Effect, ...]) -> list[type]:
    return [type(each) for each in wanted]


def test_the_life_has_every_event() -> None:
    types = {event.TYPE for data in lived().log for event in read_entry(data)[1]}
    assert len(types) == 13  # all but session.failed


@pytest.mark.parametrize("place", range(len(states())))
def test_every_state_has_a_way_on(place: int) -> None:
    state = states()[place]
    wanted = everything(state)
    asks = any(isinstance(each, AskFinish) for each in wanted)
    [pending] = [each for each in wanted if isinstance(each, KeepDeadline)]
    closing = state.round is not None and state.round.phase is RoundPhase.CLOSING
    assert asks == closing
    if state.round is not None:
        assert pending.at == state.round.deadline
    elif state.phase is SessionPhase.WAITING:
        assert pending.at == state.look_again
    else:
        assert pending == KeepDeadline(None, None)
        assert state.ended or state.phase is SessionPhase.PAUSED


@pytest.mark.parametrize("place", range(len(states())))
def test_everything_holds_all_that_any_entry_asks_for_and_that_lasts(place: int) -> None:
    """A server that forgot gets back what the entries asked for, as of the newest state."""
    state = states()[place]
    whole = everything(state)
    assert whole == everything(state)
    for number, data in enumerate(lived().log[: place + 1], start=1):
        _, events = read_entry(data)
        for effect in effects(state, number, "0" * 64, events):
            assert effect in whole or isinstance(effect, Forget | SignHead)


def test_an_old_entry_asks_for_nothing_old() -> None:
    """Performed late, an entry gives the newest state's deadline, live round and finish."""
    world = lived()
    state = world.session
    for number, data in enumerate(world.log, start=1):
        _, events = read_entry(data)
        wanted = effects(state, number, "0" * 64, events)
        assert (KeepMail() in wanted) == (number == state.mail_number)
        assert KeepLive(live_round(state)) in wanted
        stays = all(isinstance(event, RoundClosing | RoundReopened) for event in events)
        assert (KeepDeadline(None, None) in wanted) == (not stays)
        assert AskFinish not in kinds(wanted)


def test_a_closing_asks_for_its_finish() -> None:
    world = RoundWorld("abc")
    world.start(minimum=2)
    world.store("abc")
    world.target()
    wanted = world.last[1]
    assert kinds(wanted) == [AskFinish, KeepLive]
    ask = wanted[0]
    assert isinstance(ask, AskFinish)
    assert ask.work_id == "default.s-world.1.1.1"
    assert ask.item.opened == world.round.opened
    assert ask.item.closing == world.round.closing
    assert ask.item.settings == world.session.settings


def test_each_closing_has_its_own_work_id() -> None:
    world = RoundWorld("abcd")
    world.start(minimum=2, target=3)
    world.store("abc")
    world.target()
    world.finish(bad="a")
    world.store("d")
    world.target()
    [ask] = [each for each in world.last[1] if isinstance(each, AskFinish)]
    assert ask.work_id == "default.s-world.1.1.2"


def test_the_end_of_an_attempt_forgets_it_and_signs_the_head() -> None:
    world = RoundWorld("ab")
    world.start(rounds=2, minimum=1)
    world.store("ab")
    world.target()
    world.finish()
    wanted = world.last[1]
    assert kinds(wanted) == [KeepMail, KeepLive, KeepDeadline, Forget, SignHead]
    assert Forget(1, 1) in wanted
    assert SignHead(3, world.session.head) in wanted


def test_a_stop_signs_the_head_and_takes_back_the_deadline() -> None:
    world = RoundWorld("ab")
    world.start(minimum=1)
    world.give(StopSession())
    wanted = world.last[1]
    assert KeepDeadline(None, None) in wanted
    assert SignHead(2, world.session.head) in wanted
    assert KeepMail() in wanted


def test_a_pause_tells_the_clients_nothing() -> None:
    world = RoundWorld("ab")
    world.start(minimum=1)
    world.give(PauseSession())
    assert KeepMail() not in world.last[1]
    assert deadline(world.session).at == world.round.deadline


def test_the_live_round_counts_what_is_wanted_now() -> None:
    world = RoundWorld("abcdef")
    world.start(minimum=2, target=3, batch_size=2, inline_bytes_max=0)
    live = live_round(world.session)
    assert (live.phase, live.round, live.attempt, live.target) == ("collecting", 1, 1, 3)
    assert (live.number, live.batch_size) == (1, 2)
    world.store("abc")
    world.target()
    assert live_round(world.session).phase == "closing"
    world.finish(bad="ab")
    assert live_round(world.session).target == 5
    world.store("de")
    world.target()
    world.finish(bad="abde")
    assert live_round(world.session).target == 6  # seven would be more than there are


@pytest.mark.parametrize(
    "settings",
    [
        {"batch_size": 3},
        {"batch_size": 2, "inline_bytes_max": 65536},
        {"batch_size": 2, "inline_bytes_max": 0, "aggregator": "median"},
    ],
    ids=["one batch holds all", "updates ride along", "the rule compares updates"],
)
def test_nobody_folds_ahead_where_the_finish_does_it_alone(settings: dict[str, Any]) -> None:
    world = RoundWorld("abc")
    world.start(**{"minimum": 2, "inline_bytes_max": 0, **settings})
    assert live_round(world.session).batch_size == 0


def test_without_a_round_nothing_is_wanted() -> None:
    world = RoundWorld("a")
    world.start(minimum=2)
    live = live_round(world.session)
    assert (live.phase, live.round, live.attempt, live.target) == ("waiting", 1, 1, 0)
    due = START + LOOK_AGAIN
    assert deadline(world.session) == KeepDeadline(due, DeadlineFired(round=1, attempt=1, due=due))


def test_a_moved_deadline_is_the_one_that_is_pending() -> None:
    world = RoundWorld("ab")
    world.start(minimum=1, grace_s=30)
    world.store("a")
    world.deadline(100)
    moved = START + timedelta(seconds=TIMEOUT_S + 100 + 30)
    assert deadline(world.session) == KeepDeadline(
        moved, DeadlineFired(round=1, attempt=1, due=moved)
    )
    assert KeepMail() in world.last[1]
