"""What a client is asked to do, and what became of what it sent.

A mailbox is the complete list of a client's open tasks in one session: a train task that is no longer in
it is withdrawn. It is signed (`signing.MAIL`), because a live message can be forged by another client
of the same account; without a valid signature it is only noise.
"""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AwareDatetime, Discriminator, Field, Tag, TypeAdapter

from fedbus_schemas import commands
from fedbus_schemas.ids import (
    AttemptNumber,
    ClientId,
    CommandId,
    DeviceKey,
    ProjectId,
    PublicKey,
    RoundNumber,
    SessionId,
    SessionName,
    Settings,
    Sha256,
    Signature,
)
from fedbus_schemas.models import BlobRef, PackageRef
from fedbus_schemas.refusals import Refusal
from fedbus_schemas.wire import Message

TASKS_PER_MAILBOX_MAX = 8


class ModelToFetch(BlobRef):
    """A model to work on; a small one rides along in `inline` (base64)."""

    inline: Annotated[str, Field(max_length=90_000)] | None = None


class TrainTask(Message):
    """Train from this model and send the update before the deadline.

    `weight_max` is the largest number of examples the session takes. `seed` is the client's own for
    this round: a trainer that uses it can be repeated. `cohort` is how many clients are asked in this attempt.
    `local_packages` is false where the session asks that clients run no code of their own; nothing but the
    client's honesty keeps it.
    `package` is the compute package that the session runs, if it pins one.
    """

    kind: Literal["train"] = "train"
    round: RoundNumber
    attempt: AttemptNumber
    model: ModelToFetch
    settings: Settings
    seed: Annotated[int, Field(ge=0)]
    deadline: AwareDatetime
    weight_max: Annotated[int, Field(ge=1)]
    inline_bytes_max: Annotated[int, Field(ge=0)]
    trace_id: str
    session_name: SessionName | None = None
    cohort: Annotated[int, Field(ge=1)] | None = None
    local_packages: bool | None = None
    package: PackageRef | None = None


class ValidateTask(Message):
    """Measure this model on your own data and report. `round` is the round that made it."""

    kind: Literal["validate"] = "validate"
    round: RoundNumber
    model: ModelToFetch
    settings: Settings
    trace_id: str
    session_name: SessionName | None = None
    cohort: Annotated[int, Field(ge=1)] | None = None
    local_packages: bool | None = None
    package: PackageRef | None = None


Task = Annotated[TrainTask | ValidateTask, Field(discriminator="kind")]


class Fate(StrEnum):
    """What became of an update, for good. A client keeps its update until it hears one of these."""

    COUNTED = "counted"
    LATE = "late"
    REFUSED = "refused"
    GIVEN_UP = "given_up"


class Receipt(Message):
    """The last word on a client's update for one attempt of a round.

    `counted` names the model it went into. `given_up` means that the attempt itself ended without one,
    through no fault of this update.
    """

    round: RoundNumber
    attempt: AttemptNumber
    fate: Fate
    model: Sha256 | None = None
    refusal: Refusal | None = None


class Mail(Message):
    """Everything one client must know of one session now. `number` is the log entry it was made from:
    mail with a lower number than one already seen is old and is dropped.
    """

    project: ProjectId
    session: SessionId
    number: Annotated[int, Field(ge=1)]
    device: DeviceKey
    client: ClientId
    receipts: Annotated[tuple[Receipt, ...], Field(max_length=TASKS_PER_MAILBOX_MAX)] = ()
    tasks: Annotated[tuple[Task, ...], Field(max_length=TASKS_PER_MAILBOX_MAX)] = ()


class CommandTask(Message):
    """Do your part of a command, and answer once."""

    kind: Literal["command"] = "command"
    task: commands.TaskKind
    parameters: commands.Parameters = {}
    model: ModelToFetch | None = None
    deadline: AwareDatetime
    trace_id: str


class CommandMail(Message):
    """Everything one client must know of one command now. Without a task it is withdrawn: the command is over.

    `number` is the entry of the command's log that it was made from, as in `Mail`.
    """

    project: ProjectId
    command: CommandId
    number: Annotated[int, Field(ge=1)]
    device: DeviceKey
    client: ClientId
    task: CommandTask | None = None


class SignedMail(Message):
    """A mail's exact bytes, and a controller's signature over them. It holds a `Mail` or a `CommandMail`."""

    mail: Annotated[str, Field(max_length=400_000)]
    key: PublicKey
    signature: Signature

    def content(self) -> Mail:
        """Parse a session's mail. Raises `pydantic.ValidationError` when it is not one."""
        return Mail.model_validate_json(self.mail)

    def either(self) -> Mail | CommandMail:
        """Parse whichever mail it is. Raises `pydantic.ValidationError` when it is none."""
        return _EITHER.validate_json(self.mail)


def _kind(content: object) -> str:
    """Tell the two apart: only a command's mail names a command."""
    given = content if isinstance(content, dict) else {}
    return "command" if "command" in given or isinstance(content, CommandMail) else "session"


_EITHER: TypeAdapter[Mail | CommandMail] = TypeAdapter(
    Annotated[
        Annotated[Mail, Tag("session")] | Annotated[CommandMail, Tag("command")],
        Discriminator(_kind),
    ]
)
