"""A command's entries as bytes, and what each client is told of its state."""

from datetime import UTC, datetime

import pytest
from fedbus_core.commands.decide import CommandFacts, decide, trace_id
from fedbus_core.commands.log import fold, read_entry, seal
from fedbus_core.commands.mail import mail
from fedbus_core.commands.state import Command
from fedbus_core.rounds.log import LogBroken
from fedbus_schemas.codec import UnknownEvent
from fedbus_schemas.command_events import CommandEnded, EndReason
from fedbus_schemas.commands import CommandStatus, RunCommand
from fedbus_schemas.models import BlobRef

P, K = "default", "k-1"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
A, DEVICE = "c" + "a" * 16, "U" + "A" * 55
MODEL = BlobRef(digest="0" * 64, size=7)
RUN = RunCommand(command=K, task="inference", model=MODEL, parameters={"at": 0.5})
ENDED = CommandEnded(status=CommandStatus.INTERRUPTED, reason=EndReason.STOPPED)


def first() -> bytes:
    events = decide(None, RUN, CommandFacts(P, K, "run", NOW, targets=(A,))).events
    return seal(None, P, K, events, "run", NOW)


def second(state: Command) -> bytes:
    return seal(state, P, K, [ENDED], "stop", NOW)


def test_entries_are_chained_and_name_their_trace() -> None:
    state = fold(None, first(), 3)
    assert (state.number, state.sequence, state.project, state.command) == (1, 3, P, K)
    data = second(state)
    state = fold(state, data, 8)
    assert (state.number, state.sequence, state.ended) == (2, 8, ENDED)
    assert list(state.causes) == ["run", "stop"]
    entry, [event] = read_entry(data)
    assert event == ENDED
    assert trace_id(P, K) in str(entry.events[0].traceparent)


def test_what_does_not_follow_is_no_log() -> None:
    state = fold(None, first(), 1)
    with pytest.raises(LogBroken, match="does not follow"):
        fold(None, second(state), 2)
    with pytest.raises(LogBroken, match="does not follow"):
        fold(state, first(), 2)
    with pytest.raises(LogBroken, match="cannot be read"):
        fold(None, b"{}", 1)
    with pytest.raises(LogBroken, match="does not begin"):
        fold(None, seal(None, P, K, [ENDED], "stop", NOW), 1)


def test_an_unknown_event_stops_the_reader() -> None:
    newer = first().replace(b"command.created.v1", b"command.created.v9")
    with pytest.raises(UnknownEvent):
        fold(None, newer, 1)


def test_a_client_is_given_its_task_until_the_command_ends() -> None:
    state = fold(None, first(), 1)
    told = mail(state, DEVICE, A)
    assert told.task is not None
    assert told.task.model is not None
    assert (told.task.model.digest, told.task.parameters) == (MODEL.digest, {"at": 0.5})
    assert (told.number, told.task.deadline, told.task.trace_id) == (
        1,
        state.deadline,
        trace_id(P, K),
    )
    over = mail(fold(state, second(state), 2), DEVICE, A)
    assert (over.number, over.task) == (2, None)
