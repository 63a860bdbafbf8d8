"""Entries of a command's log: sealing a decision into bytes, and folding stored bytes into a state."""

from collections.abc import Sequence
from datetime import datetime
from typing import assert_never

from fedbus_schemas.codec import digest, read_command_events
from fedbus_schemas.command_events import (
    AnyCommandEvent,
    CommandCreated,
    CommandDeadlineMoved,
    CommandEnded,
    CommandEntry,
)
from fedbus_schemas.envelope import GENESIS

from fedbus_core.commands.decide import trace_id
from fedbus_core.commands.state import Command
from fedbus_core.rounds.log import LogBroken, cloud_events, read_as


def seal(
    state: Command | None,
    project: str,
    command: str,
    events: Sequence[AnyCommandEvent],
    cause: str,
    now: datetime,
) -> bytes:
    """Make the bytes of the entry that records this decision on top of `state`."""
    number = state.number + 1 if state else 1
    trace = trace_id(project, command)
    return CommandEntry(
        project=project,
        command=command,
        number=number,
        previous=state.head if state else GENESIS,
        cause=cause,
        events=cloud_events(project, command, number, ((one, trace) for one in events), now),
    ).to_bytes()


def fold(state: Command | None, data: bytes, sequence: int) -> Command:
    """Step a state by one stored entry. Raises `LogBroken`, or `UnknownEvent` from a newer version."""
    entry, events = read_entry(data)
    number, head = (state.number, state.head) if state else (0, GENESIS)
    if entry.number != number + 1 or entry.previous != head:
        raise LogBroken(f"command {entry.command}: entry {entry.number} does not follow {number}")
    if state is None:
        first, events = events[0], events[1:]
        if not isinstance(first, CommandCreated):
            raise LogBroken(f"command {entry.command}: the log does not begin with its creation")
        state = Command(first, first.deadline)
    state.number, state.head, state.sequence = entry.number, digest(data), sequence
    for event in events:
        _evolve(state, event)
    state.causes.append(entry.cause)
    state.check()
    return state


def read_entry(data: bytes) -> tuple[CommandEntry, tuple[AnyCommandEvent, ...]]:
    """Read an entry and its events. Raises `LogBroken` when it cannot be read, `UnknownEvent`."""
    entry = read_as(CommandEntry, data)
    return entry, read_command_events(entry)


def _evolve(state: Command, event: AnyCommandEvent) -> None:
    """Step the state by one event: whatever the log says has happened."""
    match event:
        case CommandCreated():
            raise AssertionError("a command is created once")
        case CommandDeadlineMoved():
            state.deadline, state.moved = event.deadline, True
        case CommandEnded():
            state.ended = event
        case _:
            assert_never(event)
