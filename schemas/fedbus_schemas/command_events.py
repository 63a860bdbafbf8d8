"""Every event of a command's log, and the entry that holds them.

As with sessions: names are in the past tense, inside a version only optional fields are added, and a
reader that meets an unknown type stops loudly.
"""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import AwareDatetime, Field, StringConstraints

from fedbus_schemas.commands import (
    DETAIL_CHARS_MAX,
    TARGETS_MAX,
    CommandStatus,
    Correlation,
    Parameters,
    TaskKind,
)
from fedbus_schemas.envelope import CloudEvent
from fedbus_schemas.events import Count, Event
from fedbus_schemas.ids import ClientId, CommandId, ProjectId, Sha256
from fedbus_schemas.models import BlobRef
from fedbus_schemas.wire import Message


class CommandCreated(Event):
    """A command exists: what is asked of whom, until when. Nothing of it changes but the deadline.

    `origin` is the client that began it by itself; none = an operator asked for it.
    """

    TYPE: ClassVar[str] = "command.created.v1"
    project: ProjectId
    command: CommandId
    task: TaskKind
    parameters: Parameters = {}
    model: BlobRef | None = None
    targets: Annotated[tuple[ClientId, ...], Field(max_length=TARGETS_MAX)]
    deadline: AwareDatetime
    correlation: Correlation
    parent: CommandId | None = None
    origin: ClientId | None = None
    trace_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]


class CommandDeadlineMoved(Event):
    """The deadline fired late because the bus was down; the clients get a grace period."""

    TYPE: ClassVar[str] = "command.deadline_moved.v1"
    deadline: AwareDatetime


class EndReason(StrEnum):
    """What ended a command."""

    ANSWERED = "answered"
    STEPPED = "stepped"
    STOPPED = "stopped"
    DEADLINE = "deadline"
    NO_CLIENTS = "no_clients"
    LIMIT = "limit"


class CommandEnded(Event):
    """The command is over. The answers that count are those stored up to `cutoff` (a sequence of RESULTS).

    An answer that was stored after it is kept all the same, and shown as late.
    """

    TYPE: ClassVar[str] = "command.ended.v1"
    status: CommandStatus
    reason: EndReason
    detail: Annotated[str, StringConstraints(max_length=DETAIL_CHARS_MAX)] = ""
    cutoff: Count = 0
    completed: Count = 0
    failed: Count = 0
    refused: Count = 0


AnyCommandEvent = CommandCreated | CommandDeadlineMoved | CommandEnded

COMMAND_EVENT_TYPES: dict[str, type[AnyCommandEvent]] = {
    event.TYPE: event for event in (CommandCreated, CommandDeadlineMoved, CommandEnded)
}


class CommandEntry(Message):
    """One decision about a command, as `envelope.Entry` is for a session."""

    project: ProjectId
    command: CommandId
    number: Annotated[int, Field(ge=1)]
    previous: Sha256
    cause: Annotated[str, StringConstraints(max_length=256)]
    events: Annotated[tuple[CloudEvent, ...], Field(min_length=1, max_length=16)]
