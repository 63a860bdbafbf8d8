"""What the api tells of commands, and what it takes to run one."""

from typing import Annotated

from pydantic import AwareDatetime, ConfigDict, Field, StringConstraints

from fedbus_schemas.command_events import EndReason
from fedbus_schemas.commands import (
    DETAIL_CHARS_MAX,
    TIMEOUT_S_DEFAULT,
    TIMEOUT_S_MAX,
    ClientStatus,
    CommandStatus,
    Correlation,
    Parameters,
    TaskKind,
)
from fedbus_schemas.ids import ClientId, CommandId, Sha256
from fedbus_schemas.models import BlobRef
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.selection import ClientQuery
from fedbus_schemas.wire import Message


class NewCommand(Message):
    """What to run, by whom, and for how long at most."""

    model_config = ConfigDict(extra="forbid")

    task: TaskKind = Field(description="inference, validate, stage_model or custom:NAME.")
    command: CommandId | None = Field(
        default=None, description="The command's id; none = one is made up."
    )
    parameters: Parameters = Field(
        default={}, description="Any JSON object of at most 8 KiB, handed to the clients."
    )
    model: Sha256 | None = Field(
        default=None, description="The SHA-256 of the model that the task is about."
    )
    clients: ClientQuery = Field(
        default=ClientQuery(), description="Whom to ask; all that are online, if it names nobody."
    )
    timeout_s: Annotated[float, Field(gt=0, le=TIMEOUT_S_MAX)] = Field(
        default=TIMEOUT_S_DEFAULT, description="Seconds until the command ends by itself."
    )
    correlation: Correlation | None = Field(
        default=None, description="What it belongs to; none = its parent's, or its own id."
    )
    parent: CommandId | None = Field(
        default=None, description="The command that it is a part of; none = a root."
    )


class StopCommandRequest(Message):
    """Why a command is stopped."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, StringConstraints(max_length=DETAIL_CHARS_MAX)] = (
        "stopped by an operator"
    )


class ClientPartView(Message):
    """One client's part. `late`: it was stored after the command's end. `value` is the result as JSON text;
    a large one is a `blob` that `GET …/results/{client}` gives.
    """

    client: ClientId
    name: str = ""
    status: ClientStatus
    fraction: float | None = None
    text: str = ""
    value: str | None = None
    blob: BlobRef | None = None
    code: RefusalCode | None = None
    detail: str = ""
    duration_s: float | None = None
    late: bool = False
    time: AwareDatetime | None = None


class CommandView(Message):
    """A command as of the last entry of its log, `number`. `progress` is the mean over its clients, 0 to 1."""

    command: CommandId
    task: TaskKind
    status: CommandStatus
    reason: EndReason | None = None
    detail: str = ""
    parameters: Parameters = {}
    model: BlobRef | None = None
    targets: tuple[ClientId, ...] = ()
    parent: CommandId | None = None
    correlation: str
    origin: ClientId | None = None
    progress: float
    completed: int = 0
    failed: int = 0
    refused: int = 0
    created: AwareDatetime
    deadline: AwareDatetime
    ended: AwareDatetime | None = None
    number: int
    trace_id: str


class CommandList(Message):
    """Commands, the newest first. `count` is how many there are in all."""

    items: tuple[CommandView, ...]
    count: int


class CommandResults(Message):
    """Every client's part of a command, by pseudonym."""

    items: tuple[ClientPartView, ...]
