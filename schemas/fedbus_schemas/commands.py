"""A command: work that clients are asked for outside of rounds, and what may be said about it.

Inference, validation on demand, staging a model, a custom function, and tasks that a client starts itself
are all commands. Each has a log of its own (`command_events.py`), decided by controllers only. A command
names its parent, so commands form trees; `correlation` holds together what belongs together.
"""

import json
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints, model_validator

from fedbus_schemas.ids import ClientId, CommandId, Sha256
from fedbus_schemas.models import BlobRef
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.selection import IDS_MAX, ClientQuery
from fedbus_schemas.wire import Message

TARGETS_MAX = IDS_MAX
"""Clients that one command may be for."""
PARAMETERS_BYTES_MAX = 8 * 1024
"""A command's parameters, as compact JSON."""
RESULT_INLINE_BYTES_MAX = 16 * 1024
"""A result up to this size rides in the answer; a larger one is a blob."""
RESULT_BYTES_MAX = 16 * 1024 * 1024
"""A client's result, as JSON."""
DETAIL_CHARS_MAX = 512
TIMEOUT_S_MAX = 7 * 86_400
TIMEOUT_S_DEFAULT = 180.0

CUSTOM = "custom:"
AUTONOMOUS = "autonomous:"


class TaskName(StrEnum):
    """The tasks that every client knows by name. Beside them: `custom:NAME`, `autonomous:NAME`."""

    VALIDATE = "validate"
    STAGE_MODEL = "stage_model"
    INFERENCE = "inference"
    RESTART = "restart"


TaskKind = Annotated[
    str, StringConstraints(pattern=r"^[a-z_]{1,32}(:[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63})?$")
]
"""What is to be done. A client that does not know it answers `refused`, so new ones can be added."""

Correlation = Annotated[str, StringConstraints(min_length=1, max_length=128)]


def _bounded(parameters: dict[str, object]) -> dict[str, object]:
    try:
        size = len(json.dumps(parameters, separators=(",", ":"), allow_nan=False).encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError("they must be JSON, without NaN and infinity") from error
    if size > PARAMETERS_BYTES_MAX:
        raise ValueError(f"{size} bytes as JSON, at most {PARAMETERS_BYTES_MAX}")
    return parameters


Parameters = Annotated[dict[str, object], AfterValidator(_bounded)]
"""What a command hands to the clients' functions: any JSON object of at most `PARAMETERS_BYTES_MAX`."""


def _is_json(text: str) -> str:
    try:
        json.loads(text, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    size = len(text.encode())
    if size > RESULT_INLINE_BYTES_MAX:
        raise ValueError(f"{size} bytes, at most {RESULT_INLINE_BYTES_MAX} ride along")
    return text


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


class CommandStatus(StrEnum):
    """Where a command stands. The last four are ends.

    `running`: some client has begun. `completed`: everyone asked has answered (or an operator wanted what
    there was), and at least one with a result. `failed`: nobody had a result. `interrupted`: stopped.
    """

    CREATED = "created"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    TIMED_OUT = "timed_out"


class ClientStatus(StrEnum):
    """Where one client's part of a command stands. `missing`: it ended without this client's answer."""

    SENT = "sent"
    ACCEPTED = "accepted"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    REFUSED = "refused"
    MISSING = "missing"


class AnswerOutcome(StrEnum):
    """How a client's part ended. `refused`: its function was never called; the code says why."""

    COMPLETED = "completed"
    FAILED = "failed"
    REFUSED = "refused"


# What is told to the controllers.


class RunCommand(Message):
    """Begin a command. Clients that `clients` names are asked also while they are offline; without names,
    those that are online when it is decided.
    """

    kind: Literal["run"] = "run"
    command: CommandId
    task: TaskKind
    parameters: Parameters = {}
    model: BlobRef | None = None
    clients: ClientQuery = ClientQuery()
    timeout_s: Annotated[float, Field(gt=0, le=TIMEOUT_S_MAX)] = TIMEOUT_S_DEFAULT
    correlation: Correlation | None = None
    parent: CommandId | None = None


class TakeUpCommand(Message):
    """A client has begun a task of its own. Written by a combiner: `client` is whom the server attests."""

    kind: Literal["take_up"] = "take_up"
    command: CommandId
    client: ClientId
    task: TaskKind
    parameters: Parameters = {}
    timeout_s: Annotated[float, Field(gt=0, le=TIMEOUT_S_MAX)] = TIMEOUT_S_DEFAULT
    correlation: Correlation | None = None
    parent: CommandId | None = None


class StepCommand(Message):
    """Skip on: end the command now with the results that there are."""

    kind: Literal["step"] = "step"


class StopCommand(Message):
    """End the command now; its tasks are withdrawn."""

    kind: Literal["stop"] = "stop"
    reason: Annotated[str, StringConstraints(max_length=DETAIL_CHARS_MAX)] = (
        "stopped by an operator"
    )


class CommandTimeout(Message):
    """The scheduled message of a command's deadline. `due` is the time it was meant for."""

    kind: Literal["timeout"] = "timeout"
    due: AwareDatetime


class AnswersCame(Message):
    """Answers were stored; perhaps everyone has answered now. Not stored: the answers themselves are."""

    kind: Literal["answers"] = "answers"


CommandInput = Annotated[
    RunCommand | TakeUpCommand | StepCommand | StopCommand | CommandTimeout | AnswersCame,
    Field(discriminator="kind"),
]


# What clients say.


class CommandProgress(Message):
    """How far the client is with its part: 0 to 1, and a line for people. Lossy: only the last one is kept."""

    command: CommandId
    status: Literal[ClientStatus.ACCEPTED, ClientStatus.RUNNING]
    fraction: Annotated[float, Field(ge=0, le=1)] | None = None
    text: Annotated[str, StringConstraints(max_length=DETAIL_CHARS_MAX)] = ""


class CommandAnswer(Message):
    """How a client's part of a command ended, with its result: any JSON, here or as a blob.

    `code` goes with `refused` and `failed`. The first answer of a client stands.
    """

    command: CommandId
    outcome: AnswerOutcome
    value: Annotated[str, AfterValidator(_is_json)] | None = Field(
        default=None, description="The result as JSON text."
    )
    blob: BlobRef | None = Field(
        default=None, description="The result as a blob that holds JSON text."
    )
    code: RefusalCode | None = None
    detail: Annotated[str, StringConstraints(max_length=DETAIL_CHARS_MAX)] = ""
    duration_s: Annotated[float, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _one_result(self) -> Self:
        if self.value is not None and self.blob is not None:
            raise ValueError("a result is inline or a blob, not both")
        if self.blob is not None and self.blob.size > RESULT_BYTES_MAX:
            raise ValueError(f"a result has at most {RESULT_BYTES_MAX} bytes")
        if self.outcome is not AnswerOutcome.COMPLETED and (self.value or self.blob):
            raise ValueError("only a completed part has a result")
        return self


class StartTask(Message):
    """I begin a task of my own. `command` begins with my pseudonym and a hyphen."""

    command: CommandId
    task: TaskKind
    parameters: Parameters = {}
    timeout_s: Annotated[float, Field(gt=0, le=TIMEOUT_S_MAX)] = TIMEOUT_S_DEFAULT
    correlation: Correlation | None = None
    parent: CommandId | None = None


class CommandGrantRequest(Message):
    """May I fetch this command's model, or upload my result?"""

    purpose: Literal["download", "upload"]
    command: CommandId
    blob: BlobRef


class CommandKept(Message):
    """The answer is kept, once and for good: the first of this client for this command."""

    command: CommandId
    answer: Sha256


def own_prefix(client: ClientId) -> str:
    """Give what the id of a command begins with that this client starts; an operator may not use it."""
    return f"{client}-"
