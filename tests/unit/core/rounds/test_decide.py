"""What is decided, case by case; the stories are in tests/transcripts."""

from datetime import timedelta
from typing import TypeAlias

import pytest
from fedbus_core.rounds.decide import LATE_TOLERANCE, LOOK_AGAIN, Facts, decide
from fedbus_core.rounds.state import CAUSES_MAX, RoundPhase, SessionPhase
from fedbus_schemas.events import (
    ClosingReason,
    DeadlineMoved,
    FailureReason,
    RoundClosing,
    RoundCompleted,
    RoundFailed,
    RoundOpened,
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
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.sessions import (
    ROUNDS_MAX,
    ArchiveSession,
    ExtendSession,
    PauseSession,
    ResumeSession,
    SessionSettings,
    StartSession,
    StopSession,
)

from tests.round_worlds import PROJECT, SESSION, START, TIMEOUT_S, RoundWorld, client, model, result

START_COMMAND = StartSession(session=SESSION, settings=SessionSettings(), model=model(0))
COMMANDS: dict[str, Input] = {
    "start": START_COMMAND,
    "pause": PauseSession(),
    "resume": ResumeSession(),
    "stop": StopSession(reason="enough"),
    "extend": ExtendSession(rounds=2),
    "archive": ArchiveSession(),
}


def world_in(phase: str) -> RoundWorld:
    """Bring a session into a phase."""
    world = RoundWorld("ab" if phase == "waiting" else "abc")
    world.start(rounds=2, minimum=3, below_minimum="fail", attempts_max=1)
    match phase:
        case "collecting" | "waiting":
            pass
        case "closing":
            world.store("abc")
            world.target()
        case "paused":
            world.give(PauseSession())
        case "paused without a round":
            world.give(PauseSession())
            world.store("abc")
            world.target()
            world.finish()
        case "completed":
            for _ in range(2):
                world.store("abc")
                world.target()
                world.finish()
        case "stopped":
            world.give(StopSession())
        case "failed":
            world.deadline()
    return world


PHASES = {
    "collecting": SessionPhase.RUNNING,
    "closing": SessionPhase.RUNNING,
    "waiting": SessionPhase.WAITING,
    "paused": SessionPhase.PAUSED,
    "paused without a round": SessionPhase.PAUSED,
    "completed": SessionPhase.COMPLETED,
    "stopped": SessionPhase.STOPPED,
    "failed": SessionPhase.FAILED,
}

EXISTS, ENDED, NOT_NOW = (
    RefusalCode.ALREADY_EXISTS,
    RefusalCode.SESSION_ENDED,
    RefusalCode.NOT_POSSIBLE_NOW,
)
Expected: TypeAlias = tuple[type, ...] | RefusalCode
AT_THE_END: dict[str, Expected] = {"completed": ENDED, "stopped": ENDED, "failed": ENDED}


def in_all(expected: Expected, **other: Expected) -> dict[str, Expected]:
    """Expect this in every phase that is not at an end, but for those named."""
    phases = dict.fromkeys(PHASES, expected) | AT_THE_END
    return phases | {phase.replace("_", " "): each for phase, each in other.items()}


DECIDED: dict[str, dict[str, Expected]] = {
    "start": dict.fromkeys(PHASES, EXISTS),
    "pause": in_all((SessionPaused,), paused=NOT_NOW, paused_without_a_round=NOT_NOW),
    "resume": in_all(
        NOT_NOW,
        paused=(SessionResumed,),
        paused_without_a_round=(SessionResumed, RoundOpened),
    ),
    "stop": in_all((SessionStopped,)),
    "extend": in_all((SessionExtended,), completed=(SessionExtended, RoundOpened)),
    "archive": dict.fromkeys(PHASES, NOT_NOW) | dict.fromkeys(AT_THE_END, (SessionArchived,)),
}


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_in_every_phase(command: str, phase: str) -> None:
    world = world_in(phase)
    assert world.session.phase is PHASES[phase]
    events = world.give(COMMANDS[command])
    expected = DECIDED[command][phase]
    if isinstance(expected, RefusalCode):
        assert world.refusal is expected
    else:
        assert tuple(type(each) for each in events) == expected


# --- starting ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        PauseSession(),
        ClientsChanged(),
        TargetReached(round=1, attempt=1),
        DeadlineFired(round=1, attempt=1, due=START),
        result(RoundClosing(round=1, attempt=1, step=1, cutoff=1, reason="target"), "a"),
    ],
    ids=lambda given: given.kind,
)
def test_only_a_start_begins_a_session(given: Input) -> None:
    world = RoundWorld()
    assert world.give(given) == ()
    assert world.refusal is RefusalCode.SESSION_UNKNOWN


def test_a_session_opens_its_first_round_at_once() -> None:
    world = RoundWorld("ab")
    started, opened = world.start(minimum=2, round_timeout_s=90)
    assert isinstance(started, SessionStarted)
    assert (started.project, started.session, started.model) == (PROJECT, SESSION, model(0))
    assert isinstance(opened, RoundOpened)
    assert (opened.round, opened.attempt, opened.model) == (1, 1, model(0))
    assert opened.deadline == START + timedelta(seconds=90)
    assert (opened.target, opened.minimum) == (2, 2)


def test_the_target_is_no_more_than_the_cohort() -> None:
    world = RoundWorld("abc")
    world.start(minimum=2, target=5, invited=6)
    assert world.round.target == 3
    assert RoundWorld("abc").start(minimum=2, target=2)[1].target == 2


def test_no_more_than_the_limit_are_invited() -> None:
    world = RoundWorld("abcdefg")
    world.start(minimum=1, invited=4)
    assert len(world.round.cohort) == 4
    assert [each.client for each in world.round.cohort] == sorted(
        each.client for each in world.round.cohort
    )


# --- the target -------------------------------------------------------------------------------------


def test_a_target_notice_closes_up_to_the_last_stored_update() -> None:
    world = RoundWorld()
    world.start(minimum=2)
    world.store("abc")
    (closing,) = world.target()
    assert closing == RoundClosing(
        round=1, attempt=1, step=1, cutoff=3, reason=ClosingReason.TARGET
    )


def test_a_target_notice_twice_closes_once() -> None:
    world = RoundWorld()
    world.start(minimum=2)
    world.store("abc")
    assert world.target()
    assert world.target() == ()
    assert world.refusal is RefusalCode.NOT_POSSIBLE_NOW


@pytest.mark.parametrize(("number", "attempt"), [(1, 2), (2, 1), (9, 9)])
def test_a_target_notice_of_another_attempt_changes_nothing(number: int, attempt: int) -> None:
    world = RoundWorld()
    world.start(minimum=2)
    world.store("abc")
    assert world.give(TargetReached(round=number, attempt=attempt)) == ()
    assert world.refusal is RefusalCode.ROUND_CLOSED


def test_without_a_new_update_nothing_closes() -> None:
    world = RoundWorld("abcd")
    world.start(minimum=2, target=3)
    assert world.target() == ()
    world.store("abc")
    world.target()
    world.finish(bad="a")
    assert world.round.phase is RoundPhase.COLLECTING
    assert world.target() == ()
    assert world.refusal is RefusalCode.NOT_POSSIBLE_NOW
    world.store("d")
    (closing,) = world.target()
    assert (closing.step, closing.cutoff) == (2, 4)


# --- the deadline -----------------------------------------------------------------------------------


def test_a_deadline_without_any_update_fails_the_attempt() -> None:
    world = RoundWorld()
    world.start(minimum=2)
    failed, opened = world.deadline()
    assert isinstance(failed, RoundFailed)
    assert (failed.reason, failed.valid, failed.minimum) == (FailureReason.BELOW_MINIMUM, 0, 2)
    assert isinstance(opened, RoundOpened)
    assert (opened.round, opened.attempt) == (1, 2)


def test_a_deadline_with_updates_closes() -> None:
    world = RoundWorld()
    world.start(minimum=2)
    world.store("a")
    (closing,) = world.deadline()
    assert (closing.reason, closing.cutoff) == (ClosingReason.DEADLINE, 1)


@pytest.mark.parametrize("seconds", [-30.0, 30.0])
def test_a_deadline_that_was_meant_for_another_time_is_void(seconds: float) -> None:
    world = RoundWorld()
    world.start(minimum=2)
    world.store("a")
    due = world.round.deadline + timedelta(seconds=seconds)
    world.later(TIMEOUT_S)
    assert world.give(DeadlineFired(round=1, attempt=1, due=due)) == ()
    assert world.refusal is RefusalCode.NOT_POSSIBLE_NOW


def test_a_deadline_of_an_earlier_attempt_is_void() -> None:
    world = RoundWorld()
    world.start(minimum=2)
    first = DeadlineFired(round=1, attempt=1, due=world.round.deadline)
    world.deadline()
    assert world.give(first) == ()
    assert world.refusal is RefusalCode.ROUND_CLOSED


def test_a_deadline_does_not_close_what_is_closing() -> None:
    world = RoundWorld()
    world.start(minimum=2)
    world.store("abc")
    world.target()
    assert world.deadline() == ()
    assert world.refusal is RefusalCode.NOT_POSSIBLE_NOW


@pytest.mark.parametrize(
    ("late", "moved"), [(timedelta(0), False), (LATE_TOLERANCE, False), (LATE_TOLERANCE * 2, True)]
)
def test_a_deadline_that_fired_late_is_moved_once(late: timedelta, moved: bool) -> None:
    world = RoundWorld()
    world.start(minimum=2, grace_s=10)
    world.store("a")
    (event,) = world.deadline(late.total_seconds())
    assert isinstance(event, DeadlineMoved) == moved
    if moved:
        assert world.round.deadline == world.now + timedelta(seconds=10)
        (closing,) = world.deadline(600)
        assert isinstance(closing, RoundClosing)


def test_without_a_grace_period_no_deadline_is_moved() -> None:
    world = RoundWorld()
    world.start(minimum=2, grace_s=0)
    world.store("a")
    (closing,) = world.deadline(600)
    assert isinstance(closing, RoundClosing)


# --- the finish -------------------------------------------------------------------------------------


def closing_world(**settings: object) -> RoundWorld:
    world = RoundWorld("abcd")
    world.start(**{"rounds": 2, "minimum": 2, "target": 3, **settings})
    world.store("abc")
    world.target()
    return world


def test_the_target_reached_completes_the_round_and_opens_the_next() -> None:
    world = closing_world()
    completed, opened = world.finish()
    assert isinstance(completed, RoundCompleted)
    assert completed.counted == (client("a"), client("b"), client("c"))
    assert (completed.model, completed.step) == (model(1), 1)
    assert isinstance(opened, RoundOpened)
    assert (opened.round, opened.attempt, opened.model) == (2, 1, model(1))


def test_the_last_round_completes_the_session() -> None:
    world = closing_world(rounds=1)
    _, completed = world.finish()
    assert completed == SessionCompleted(rounds=1, model=model(1).digest)


def test_below_the_target_the_round_goes_on_until_its_deadline() -> None:
    world = closing_world()
    (reopened,) = world.finish(bad="a")
    assert isinstance(reopened, RoundReopened)
    assert (reopened.valid, len(reopened.refused)) == (2, 1)
    (closing,) = world.deadline()
    assert (closing.step, closing.reason) == (2, ClosingReason.DEADLINE)
    completed, _ = world.finish(bad="a")
    assert isinstance(completed, RoundCompleted)


def test_a_result_that_comes_after_the_deadline_is_the_last_word() -> None:
    world = closing_world()
    world.later(TIMEOUT_S)
    completed, _ = world.finish(bad="a")
    assert isinstance(completed, RoundCompleted)


def test_after_the_deadline_fired_a_servers_clock_that_goes_back_opens_nothing_again() -> None:
    world = RoundWorld("abc")
    world.start(minimum=2)
    world.store("ab")
    world.deadline()
    world.later(-10)
    completed, _ = world.finish()
    assert isinstance(completed, RoundCompleted)


def test_enough_updates_that_came_while_closing_close_again_at_once() -> None:
    world = closing_world()
    world.store("d")
    reopened, closing = world.finish(bad="a")
    assert isinstance(reopened, RoundReopened)
    assert (closing.step, closing.cutoff, closing.reason) == (2, 4, ClosingReason.TARGET)


def test_too_few_updates_that_came_while_closing_close_nothing() -> None:
    world = RoundWorld("abcdefg")
    world.start(minimum=2, target=3)
    world.store("abc")
    world.target()
    world.store("d")
    (reopened,) = world.finish(bad="ab")  # five would be needed, four are there
    assert isinstance(reopened, RoundReopened)


def test_everyone_answered_above_the_minimum_completes_at_once() -> None:
    world = RoundWorld("abc")
    world.start(rounds=1, minimum=2)
    world.store("abc")
    world.target()
    completed, _ = world.finish(bad="a")
    assert isinstance(completed, RoundCompleted)


def test_everyone_answered_below_the_minimum_fails_at_once() -> None:
    world = RoundWorld("abc")
    world.start(rounds=1, minimum=2)
    world.store("abc")
    world.target()
    failed, opened = world.finish(bad="ab")
    assert isinstance(failed, RoundFailed)
    assert (failed.valid, len(failed.refused)) == (1, 2)
    assert isinstance(opened, RoundOpened)


def test_a_result_without_any_valid_update_fails() -> None:
    world = RoundWorld("ab")
    world.start(rounds=1, minimum=1)
    world.store("ab")
    world.target()
    failed, _ = world.finish(bad="ab")
    assert isinstance(failed, RoundFailed)
    assert failed.valid == 0


def test_a_result_of_an_earlier_step_is_void() -> None:
    world = closing_world()
    first = world.result()
    world.finish(bad="a")
    assert world.give(first) == ()
    assert world.refusal is RefusalCode.NOT_POSSIBLE_NOW
    world.store("d")
    world.target()
    assert world.give(first) == ()
    assert world.refusal is RefusalCode.NOT_POSSIBLE_NOW
    assert world.finish(bad="a")


def test_a_result_before_any_closing_is_void() -> None:
    world = RoundWorld()
    world.start(minimum=2)
    early = RoundClosing(round=1, attempt=1, step=1, cutoff=1, reason=ClosingReason.TARGET)
    assert world.give(result(early, "abc")) == ()
    assert world.refusal is RefusalCode.NOT_POSSIBLE_NOW


def test_a_result_of_another_attempt_is_void() -> None:
    world = closing_world()
    old = world.result()
    world.finish()
    assert world.give(old) == ()
    assert world.refusal is RefusalCode.ROUND_CLOSED


# --- failed attempts --------------------------------------------------------------------------------


def test_used_up_attempts_fail_the_session_if_it_is_to_fail() -> None:
    world = RoundWorld()
    world.start(minimum=2, attempts_max=2, below_minimum="fail")
    world.deadline()
    failed, ended = world.deadline()
    assert isinstance(failed, RoundFailed)
    assert isinstance(ended, SessionFailed)
    assert (ended.reason, ended.round) == (FailureReason.BELOW_MINIMUM, 1)
    assert "after 2 attempts" in ended.detail


def test_used_up_attempts_let_the_session_rest_if_it_is_to_wait() -> None:
    world = RoundWorld()
    world.start(minimum=2, attempts_max=2, below_minimum="wait")
    world.deadline()
    _, waiting = world.deadline()
    assert isinstance(waiting, SessionWaiting)
    assert waiting.rest
    assert (waiting.round, waiting.attempt) == (1, 3)
    assert waiting.look_again == world.now + timedelta(seconds=TIMEOUT_S)
    assert world.give(ClientsChanged()) == ()
    (opened,) = world.deadline()
    assert isinstance(opened, RoundOpened)
    assert opened.attempt == 3
    assert not world.session.rest
    _, again = world.deadline()
    assert isinstance(again, RoundOpened)
    _, resting = world.deadline()
    assert isinstance(resting, SessionWaiting)


def test_a_paused_session_opens_nothing_after_its_round() -> None:
    world = closing_world()
    world.give(PauseSession())
    assert [type(each) for each in world.finish()] == [RoundCompleted]
    assert world.session.round is None


def test_a_paused_session_completes_when_its_last_round_does() -> None:
    world = closing_world(rounds=1)
    world.give(PauseSession())
    assert [type(each) for each in world.finish()] == [RoundCompleted, SessionCompleted]


def test_a_paused_session_opens_nothing_after_a_failed_attempt() -> None:
    world = RoundWorld()
    world.start(minimum=2, attempts_max=1, below_minimum="fail")
    world.give(PauseSession())
    assert [type(each) for each in world.deadline()] == [RoundFailed]
    _, opened = world.give(ResumeSession())
    assert isinstance(opened, RoundOpened)
    assert opened.attempt == 2


def test_a_session_that_resumes_without_clients_waits() -> None:
    world = world_in("paused without a round")
    world.online = "a"
    _, waiting = world.give(ResumeSession())
    assert isinstance(waiting, SessionWaiting)
    assert world.session.phase is SessionPhase.WAITING


# --- waiting ----------------------------------------------------------------------------------------


def test_too_few_clients_wait_and_the_session_looks_again() -> None:
    world = RoundWorld("a")
    _, waiting = world.start(minimum=2)
    assert isinstance(waiting, SessionWaiting)
    assert (waiting.online, waiting.needed, waiting.rest) == (1, 2, False)
    assert waiting.look_again == START + LOOK_AGAIN
    (still,) = world.deadline()
    assert isinstance(still, SessionWaiting)
    assert still.look_again == START + 2 * LOOK_AGAIN


def test_clients_that_come_wake_a_waiting_session() -> None:
    world = RoundWorld("a")
    world.start(minimum=2)
    assert world.give(ClientsChanged()) == ()
    world.online = "ab"
    (opened,) = world.give(ClientsChanged())
    assert isinstance(opened, RoundOpened)
    assert world.give(ClientsChanged()) == ()
    assert world.refusal is RefusalCode.NOT_POSSIBLE_NOW


def test_a_look_that_was_replaced_is_void() -> None:
    world = RoundWorld("a")
    world.start(minimum=2)
    first = DeadlineFired(round=1, attempt=1, due=START + LOOK_AGAIN)
    world.deadline()
    assert world.give(first) == ()
    assert world.refusal is RefusalCode.NOT_POSSIBLE_NOW


def test_a_session_that_is_to_fail_waits_one_round_only() -> None:
    world = RoundWorld("a")
    _, waiting = world.start(minimum=2, below_minimum="fail")
    assert waiting.look_again == START + timedelta(seconds=TIMEOUT_S)
    (failed,) = world.deadline()
    assert isinstance(failed, SessionFailed)
    assert failed.reason is FailureReason.NO_CLIENTS
    assert failed.detail == "1 clients online, 2 needed"


def test_a_session_that_is_to_fail_goes_on_when_clients_came() -> None:
    world = RoundWorld("a")
    world.start(minimum=2, below_minimum="fail")
    world.online = "ab"
    (opened,) = world.deadline()
    assert isinstance(opened, RoundOpened)


# --- extending, and inputs that come twice ----------------------------------------------------------


def test_an_extension_adds_to_the_rounds() -> None:
    world = closing_world(rounds=1)
    assert world.give(ExtendSession(rounds=2)) == (SessionExtended(rounds=3),)
    assert [type(each) for each in world.finish()] == [RoundCompleted, RoundOpened]


def test_an_extension_has_a_limit() -> None:
    world = closing_world(rounds=2)
    assert world.give(ExtendSession(rounds=ROUNDS_MAX - 1)) == ()
    assert world.refusal is RefusalCode.INVALID
    assert world.give(ExtendSession(rounds=ROUNDS_MAX - 2))


def test_an_input_that_comes_twice_is_decided_once() -> None:
    world = closing_world()
    assert world.give(ExtendSession(rounds=1), "the-order")
    assert world.give(ExtendSession(rounds=1), "the-order") == ()
    assert world.refusal is RefusalCode.ALREADY_EXISTS
    assert world.session.rounds_total == 3


def test_a_bounded_number_of_inputs_is_remembered() -> None:
    world = closing_world()
    world.give(ExtendSession(rounds=1), "the-order")
    for number in range(CAUSES_MAX - 1):
        world.give(PauseSession() if number % 2 == 0 else ResumeSession())
    assert "the-order" in world.session.causes
    world.give(ResumeSession())
    assert "the-order" not in world.session.causes
    assert len(world.session.causes) == CAUSES_MAX


def test_deciding_is_pure() -> None:
    world = closing_world()
    facts = world.facts("i")
    given = world.result("a")
    assert decide(world.session, given, facts) == decide(world.session, given, facts)


def test_a_decision_without_a_state_needs_its_project() -> None:
    decision = decide(None, START_COMMAND, Facts("other", "s-1", "c", START))
    started = decision.events[0]
    assert isinstance(started, SessionStarted)
    assert (started.project, started.session) == ("other", "s-1")
