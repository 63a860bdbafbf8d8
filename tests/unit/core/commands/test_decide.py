"""What a command's inputs decide, one at a time."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fedbus_core.commands.decide import (
    GRACE,
    LATE_TOLERANCE,
    OPEN_MAX,
    OPEN_OF_CLIENT_MAX,
    Answered,
    CommandFacts,
    decide,
)
from fedbus_core.commands.log import fold, seal
from fedbus_core.commands.state import Command
from fedbus_schemas.command_events import (
    CommandCreated,
    CommandDeadlineMoved,
    CommandEnded,
    EndReason,
)
from fedbus_schemas.commands import (
    TARGETS_MAX,
    AnswerOutcome,
    AnswersCame,
    CommandInput,
    CommandStatus,
    CommandTimeout,
    RunCommand,
    StepCommand,
    StopCommand,
    TakeUpCommand,
)
from fedbus_schemas.refusals import RefusalCode

P, K = "default", "k-1"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
A, B, C, STRANGER = ("c" + letter * 16 for letter in "abcz")
RUN = RunCommand(command=K, task="inference", timeout_s=60)
DUE = NOW + timedelta(seconds=60)
DONE, FAILED, REFUSED = AnswerOutcome.COMPLETED, AnswerOutcome.FAILED, AnswerOutcome.REFUSED


def facts(cause: str = "x", **more: Any) -> CommandFacts:
    return CommandFacts(P, K, cause, **{"now": NOW, **more})


def running(*targets: str) -> Command:
    events = decide(None, RUN, facts("run", targets=targets)).events
    return fold(None, seal(None, P, K, events, "run", NOW), 1)


def end(state: Command, given: CommandInput, **more: Any) -> CommandEnded:
    [event] = decide(state, given, facts(**more)).events
    assert isinstance(event, CommandEnded)
    return event


def test_a_command_begins_with_its_sorted_targets_and_its_deadline() -> None:
    decision = decide(None, RUN, facts(targets=(B, A, B)))
    [created] = decision.events
    assert isinstance(created, CommandCreated)
    assert (created.targets, created.deadline, created.correlation) == ((A, B), DUE, K)
    assert created.origin is None


def test_more_targets_than_there_may_be_are_cut() -> None:
    many = tuple(
        f"c{number:016d}".translate(str.maketrans("0189", "abcd")) for number in range(9999)
    )
    [created] = decide(None, RUN, facts(targets=many)).events
    assert isinstance(created, CommandCreated)
    assert len(created.targets) == TARGETS_MAX


def test_a_command_for_nobody_has_failed_at_once() -> None:
    _, ended = decide(None, RUN, facts()).events
    assert isinstance(ended, CommandEnded)
    assert (ended.status, ended.reason) == (CommandStatus.FAILED, EndReason.NO_CLIENTS)


@pytest.mark.parametrize(
    ("given", "most"),
    [
        (RUN, OPEN_MAX),
        (TakeUpCommand(command=K, client=A, task="autonomous:x"), OPEN_OF_CLIENT_MAX),
    ],
)
def test_too_many_open_commands_let_a_new_one_fail(given: CommandInput, most: int) -> None:
    assert len(decide(None, given, facts(targets=(A,), open=most - 1)).events) == 1
    _, ended = decide(None, given, facts(targets=(A,), open=most)).events
    assert isinstance(ended, CommandEnded)
    assert (ended.status, ended.reason) == (CommandStatus.FAILED, EndReason.LIMIT)


def test_a_clients_own_task_is_its_alone() -> None:
    taken = TakeUpCommand(
        command=K, client=A, task="autonomous:x", correlation="mine", parent="k-0"
    )
    [created] = decide(None, taken, facts(targets=(A,))).events
    assert isinstance(created, CommandCreated)
    assert (created.origin, created.targets) == (A, (A,))
    assert (created.correlation, created.parent) == ("mine", "k-0")


@pytest.mark.parametrize(
    "given", [StepCommand(), StopCommand(), AnswersCame(), CommandTimeout(due=NOW)]
)
def test_nothing_happens_to_an_unknown_command(given: CommandInput) -> None:
    decision = decide(None, given, facts())
    assert decision.refusal is not None
    assert (decision.events, decision.refusal.code) == ((), RefusalCode.COMMAND_UNKNOWN)


@pytest.mark.parametrize(
    ("answers", "status"),
    [
        ((DONE, DONE), CommandStatus.COMPLETED),
        ((DONE, FAILED), CommandStatus.COMPLETED),
        ((FAILED, REFUSED), CommandStatus.FAILED),
    ],
)
def test_it_ends_when_everyone_has_answered(answers: Any, status: CommandStatus) -> None:
    state = running(A, B)
    first = Answered(A, answers[0], 5)
    none_yet = decide(state, AnswersCame(), facts(answers=(first,)))
    assert none_yet.events == ()
    ended = end(state, AnswersCame(), answers=(first, Answered(B, answers[1], 9)))
    assert (ended.status, ended.reason, ended.cutoff) == (status, EndReason.ANSWERED, 9)
    counts = (ended.completed, ended.failed, ended.refused)
    assert counts == tuple(answers.count(one) for one in (DONE, FAILED, REFUSED))


def test_a_strangers_answer_neither_ends_it_nor_counts() -> None:
    state = running(A, B)
    theirs = (Answered(A, DONE, 5), Answered(STRANGER, DONE, 6))
    assert decide(state, AnswersCame(), facts(answers=theirs)).events == ()
    ended = end(state, StepCommand(), answers=theirs)
    assert (ended.completed, ended.cutoff) == (1, 5)


def test_stepping_takes_what_there_is_and_stopping_interrupts() -> None:
    state = running(A, B)
    answers = (Answered(A, DONE, 5),)
    stepped = end(state, StepCommand(), answers=answers)
    assert (stepped.status, stepped.completed) == (CommandStatus.COMPLETED, 1)
    assert end(state, StepCommand()).status is CommandStatus.FAILED
    stopped = end(state, StopCommand(reason="enough"), answers=answers)
    assert (stopped.status, stopped.reason) == (CommandStatus.INTERRUPTED, EndReason.STOPPED)
    assert (stopped.detail, stopped.completed) == ("enough", 1)


def test_a_timeout_in_time_ends_it_and_a_late_one_gives_grace_once() -> None:
    state = running(A, B)
    timeout = CommandTimeout(due=DUE)
    assert end(state, timeout, now=DUE + LATE_TOLERANCE).status is CommandStatus.TIMED_OUT
    everyone = (Answered(A, DONE, 5), Answered(B, DONE, 6))
    assert end(state, timeout, now=DUE, answers=everyone).status is CommandStatus.COMPLETED

    late = DUE + LATE_TOLERANCE + timedelta(seconds=1)
    [moved] = decide(state, timeout, facts(now=late)).events
    assert moved == CommandDeadlineMoved(deadline=late + GRACE)
    state = fold(state, seal(state, P, K, [moved], "late", NOW), 2)
    assert decide(state, timeout, facts(now=late)).events == (), "the old one"
    again = CommandTimeout(due=late + GRACE)
    assert end(state, again, now=late + 10 * GRACE).reason is EndReason.DEADLINE


def test_what_has_ended_stays_ended() -> None:
    state = running(A)
    ended = decide(state, StopCommand(), facts("stop")).events
    state = fold(state, seal(state, P, K, ended, "stop", NOW), 2)
    for given in (StepCommand(), StopCommand(), AnswersCame(), CommandTimeout(due=DUE)):
        decision = decide(state, given, facts("more", answers=(Answered(A, DONE, 5),)))
        assert decision.refusal is not None
        assert (decision.events, decision.refusal.code) == ((), RefusalCode.COMMAND_ENDED)


def test_an_input_is_decided_once_and_a_command_begun_once() -> None:
    state = running(A)
    for given, cause in ((RUN, "run"), (RUN, "again"), (StopCommand(), "run")):
        decision = decide(state, given, facts(cause, targets=(B,)))
        assert decision.refusal is not None
        assert (decision.events, decision.refusal.code) == ((), RefusalCode.ALREADY_EXISTS)
