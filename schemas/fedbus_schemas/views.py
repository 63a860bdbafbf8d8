"""What the api tells: sessions, rounds, models, clients, and what went wrong. Read-only, made from the log.

Inside v1 only optional fields are added; a client ignores fields it does not know.
"""

from enum import StrEnum
from typing import Annotated, Generic, Literal, Self, TypeVar

from pydantic import AwareDatetime, ConfigDict, Field, JsonValue, StringConstraints, model_validator

from fedbus_schemas.dead_letters import LetterFate
from fedbus_schemas.events import ClosingReason, FinishTimings
from fedbus_schemas.ids import (
    AttemptNumber,
    ClientId,
    DeviceKey,
    InstanceName,
    Metrics,
    ProjectId,
    PublicKey,
    RoundNumber,
    SessionId,
    Sha256,
)
from fedbus_schemas.models import BlobRef
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.sessions import ROUNDS_MAX, RoundTimeout, SessionSettings
from fedbus_schemas.wire import Message

Count = Annotated[int, Field(ge=0)]

T = TypeVar("T")


class ProblemView(Message):
    """An error, as `application/problem+json` (RFC 9457). `code` is what a program looks at."""

    type: str
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str
    code: RefusalCode


class Page(Message, Generic[T]):
    """A part of a list. `next` is the cursor of the part that follows, none at the end.

    `count` is how many there are in the whole list, after its filters.
    """

    items: tuple[T, ...]
    next: str | None = None
    count: Count = 0


class CountView(Message):
    """How many there are."""

    count: Count


class Outcome(StrEnum):
    """How an attempt of a round ended."""

    OPEN = "open"
    COMPLETED = "completed"
    FAILED = "failed"


class RunOutcome(StrEnum):
    """How a run ended."""

    RUNNING = "running"
    COMPLETED = "completed"
    STOPPED = "stopped"
    FAILED = "failed"


class RunView(Message):
    """The rounds that one command asked a session for: its start, or an extension of it.

    `completed_at` is when it ended, `model` the newest global model then.
    """

    session: SessionId
    run: Annotated[int, Field(ge=1)]
    rounds: Annotated[int, Field(ge=1)]
    first_round: RoundNumber
    last_round: RoundNumber
    round_timeout_s: float
    started: AwareDatetime
    outcome: RunOutcome
    completed_at: AwareDatetime | None = None
    model: Sha256 | None = None


class StuckView(Message):
    """Why a session does not go on by itself: something of it went to the dead letters.

    Mend the cause, then `POST /v1/dead-letters/{dead_letter}/retry`.
    """

    dead_letter: Annotated[int, Field(ge=1)]
    stream: str
    subject: str
    code: str
    detail: str = ""
    since: AwareDatetime


class RoundProgress(Message):
    """The open attempt. `stored` is the live count of updates that are kept; none = unknown just now."""

    number: RoundNumber
    attempt: AttemptNumber
    phase: Literal["collecting", "closing"]
    invited: Count
    target: Count
    minimum: Count
    stored: Count | None
    opened: AwareDatetime
    deadline: AwareDatetime


class ValidationView(Message):
    """What clients measured of a model on their own data: means, weighted by the number of examples."""

    reports: Count = 0
    weight: Count = 0
    metrics: Metrics = {}


class ValidationReportView(Message):
    """What one client measured of the model that a round made. `weight` is its number of examples."""

    sequence: Annotated[int, Field(ge=1)]
    time: AwareDatetime
    session: SessionId
    round: RoundNumber
    model: Sha256
    client: ClientId
    weight: Count
    metrics: Metrics = {}


class SessionView(Message):
    """A session. `number` is the log entry that the view was made from.

    `model` is the newest global model, `initial_model` the one it began with, `package` the compute package
    that it pins. `metrics` and
    `validation` are those of the last completed round. A waiting session looks again at `look_again`.
    One that is `stuck` needs an operator.
    """

    session: SessionId
    project: ProjectId
    name: str
    phase: Literal["running", "waiting", "paused", "completed", "stopped", "failed"]
    reason: str = ""
    rounds_completed: Count
    rounds_total: Count
    round: RoundProgress | None = None
    stuck: StuckView | None = None
    look_again: AwareDatetime | None = None
    model: Sha256
    initial_model: Sha256
    package: Sha256 | None = None
    metrics: Metrics = {}
    validation: ValidationView = ValidationView()
    settings: SessionSettings
    created: AwareDatetime
    updated: AwareDatetime
    archived: AwareDatetime | None = None
    number: Annotated[int, Field(ge=1)]


class NewSession(SessionSettings):
    """What to start: the settings, the model to start from, and perhaps an id of the caller's choice."""

    model_config = ConfigDict(extra="forbid")

    model: Sha256 | None = Field(
        default=None,
        description="The SHA-256 of an uploaded model or one that a session made; none = the newest.",
    )
    session: SessionId | None = Field(
        default=None, description="The session's id; none = one is made up."
    )
    package: Sha256 | None = Field(
        default=None,
        description="The compute package to pin; none = the active one, if there is one.",
    )
    server_functions: str | None = Field(
        default=None,
        max_length=262_144,
        description="The source of a class `ServerFunctions` of yours, which runs at the server in a "
        "process that can do nothing but compute; `functions` names one that is stored already.",
    )

    @model_validator(mode="after")
    def _functions_make_the_models(self) -> Self:
        """Not yet known: the code that comes along is looked at first; the settings are checked then."""
        return self


class AggregatorView(Message):
    """An aggregation rule: its name, what the log calls its present version, and its parameters.

    `updates_min` is the least `minimum` of a session with the rule's defaults, `parameters` a JSON schema.
    """

    name: str
    rule: str
    description: str
    updates_min: Annotated[int, Field(ge=1)]
    parameters: dict[str, JsonValue]


class StopRequest(Message):
    """Why a session is stopped."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, StringConstraints(max_length=512)] = "stopped by an operator"


class ExtendRequest(Message):
    """How many rounds to add, and how long those may take; none = as long as before."""

    model_config = ConfigDict(extra="forbid")

    rounds: Annotated[int, Field(ge=1, le=ROUNDS_MAX)] = 5
    round_timeout_s: RoundTimeout | None = None


class RefusedView(Message):
    """An update that was stored in time and did not count, and why."""

    client: ClientId
    code: RefusalCode
    detail: str = ""
    meaning: str


class RoundView(Message):
    """One attempt of a round.

    `missing` counts those invited whose update was late or never came. `metrics` are the clients' training
    metrics, weighted by examples; `validation` what they measured of the model that the round made.
    Times are when the entry was stored in the log. `pruned`: its stored updates were deleted by rule.
    """

    session: SessionId
    number: RoundNumber
    attempt: AttemptNumber
    outcome: Outcome
    reason: str = ""
    cohort: Count
    target: Count
    minimum: Count
    counted: Count = 0
    clients: tuple[ClientId, ...] = ()
    refused: tuple[RefusedView, ...] = ()
    missing: Count = 0
    weight: Count = 0
    base: Sha256
    model: Sha256 | None = None
    included: BlobRef | None = None
    rule: str = ""
    workers: tuple[InstanceName, ...] = ()
    metrics: Metrics = {}
    validation: ValidationView = ValidationView()
    closed_by: ClosingReason | None = None
    opened: AwareDatetime
    deadline: AwareDatetime
    closing: AwareDatetime | None = None
    ended: AwareDatetime | None = None
    duration_s: float | None = None
    timings: FinishTimings = FinishTimings()
    pruned: bool = False
    trace_id: str


class RoundAttempts(Message):
    """A round with its attempts, oldest first; only the newest ones are kept when there are many."""

    session: SessionId
    number: RoundNumber
    attempts: Annotated[tuple[RoundView, ...], Field(min_length=1)]


class SpanView(Message):
    """A stretch of a round: what, by whom, from when to when in seconds after the opening."""

    name: Literal[
        "download", "train", "upload", "stored", "closing", "read", "fold", "store", "completed"
    ]
    who: str
    start_s: float
    end_s: float


class TimelineView(Message):
    """Where the time of an attempt went. Client spans come from the clients' own clocks: lengths only.

    A client's three spans are laid end to end before the moment its update was stored.
    `left_out` counts updates beyond the limit of what is shown.
    """

    session: SessionId
    number: RoundNumber
    attempt: AttemptNumber
    outcome: Outcome
    trace_id: str
    opened: AwareDatetime
    duration_s: float | None = None
    spans: tuple[SpanView, ...] = ()
    left_out: Count = 0


class ModelView(Message):
    """A model. An uploaded one has no parent; one that a round made names session, round and parent."""

    digest: Sha256
    size: Count
    layout: Sha256
    name: str = ""
    parent: Sha256 | None = None
    session: SessionId | None = None
    round: RoundNumber | None = None
    created: AwareDatetime


class PackageView(Message):
    """A stored compute package. `form` is the kind of archive; `signers` are the keys that vouch for it."""

    digest: Sha256
    size: Count
    name: str = ""
    form: str = ""
    active: bool = False
    signers: tuple[PublicKey, ...] = ()
    created: AwareDatetime


class GenerationView(Message):
    """What one generation of a federation was set up with."""

    number: Annotated[int, Field(ge=1)]
    package: Sha256
    model: Sha256 | None = None
    since: AwareDatetime


class FederationView(Message):
    """What the federation runs. `configured`: the session named has used the package; it stays.

    `generations` are those that sessions have used, newest first; their packages may be pinned again.
    """

    generation: Annotated[int, Field(ge=1)]
    package: Sha256 | None = None
    model: Sha256 | None = None
    configured: bool = False
    session: SessionId | None = None
    since: AwareDatetime
    generations: tuple[GenerationView, ...] = ()


class ActivateRequest(Message):
    """Which stored package becomes the active one."""

    model_config = ConfigDict(extra="forbid")

    package: Sha256


class InitialiseRequest(Message):
    """A package and a seed model for a new generation."""

    model_config = ConfigDict(extra="forbid")

    package: Sha256
    model: Sha256


class ChecksumView(Message):
    """The SHA-256 of a stored file."""

    sha256: Sha256


class LineageView(Message):
    """A model and its ancestors, newest first. `complete` is false when the limit cut the list."""

    items: tuple[ModelView, ...]
    complete: bool


class ClientView(Message):
    """A client. `online` is none when nothing is known just now (presence is rebuilt by heartbeats)."""

    client: ClientId
    name: str
    device: DeviceKey
    key: PublicKey
    since: AwareDatetime
    online: bool | None = None
    last_seen: AwareDatetime | None = None


class CombinerView(Message):
    """A combiner that took part in making models, with the last round it worked on."""

    name: InstanceName
    session: SessionId
    round: RoundNumber
    last_seen: AwareDatetime


class ControllerView(Message):
    """A controller that decided on sessions, with the last round it decided on."""

    name: InstanceName
    session: SessionId
    round: RoundNumber
    last_seen: AwareDatetime


class ClientChange(Message):
    """What to change of a client."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, StringConstraints(min_length=1, max_length=128)]


class RefusalView(Message):
    """A request of a client's that was refused: what it asked (`verb`), and why it was not taken."""

    sequence: Count
    time: AwareDatetime
    device: str
    client: ClientId | None = None
    verb: str = ""
    code: str
    detail: str = ""
    meaning: str = ""
    session: SessionId | None = None
    round: RoundNumber | None = None


class DeadLetterView(Message):
    """A message that nobody could handle. `subject` and `stream` are those it had; `code` says why.

    `deliveries` is how often it was tried, `original_sequence` its place in its own stream. `data`
    (base64) is told only of a single letter.
    """

    sequence: Annotated[int, Field(ge=1)]
    time: AwareDatetime
    stream: str
    subject: str
    session: SessionId | None = None
    code: str
    detail: str = ""
    meaning: str = ""
    deliveries: Count = 0
    original_sequence: Count = 0
    size: Count
    data: str | None = None


class LetterOutcomeView(Message):
    """What was done with a dead letter: delivered again, or dropped; when, and by whom."""

    sequence: Annotated[int, Field(ge=1)]
    fate: LetterFate
    time: AwareDatetime
    by: str = ""


class TrustView(Message):
    """The public keys of the controllers: they sign the heads of the log and the clients' mail."""

    keys: tuple[PublicKey, ...] = ()


class ServerState(StrEnum):
    """Whether a server answers the api."""

    OK = "ok"
    AWAY = "away"


class ServersView(Message):
    """The servers behind the api."""

    bus: ServerState
    records: ServerState
    store: ServerState


class StatusView(Message):
    """The project at a glance. `stuck` names the sessions that need an operator, at most 100 of them."""

    project: ProjectId
    sessions: dict[str, int] = {}
    clients: Count = 0
    clients_online: Count | None = None
    models_uploaded: Count = 0
    dead_letters: Count = 0
    stuck: dict[SessionId, StuckView] = {}
    servers: ServersView


class HealthView(Message):
    """Whether the process lives, or is ready to serve."""

    status: Literal["ok"] = "ok"


class StoredEntry(Message):
    """A stored message exactly as the stream keeps it: `data` is base64 of its bytes."""

    sequence: Annotated[int, Field(ge=1)]
    time: AwareDatetime
    data: str


class LiveUpdate(Message):
    """The data of the live event `update.stored`: an update was kept."""

    session: SessionId
    round: RoundNumber
    attempt: AttemptNumber
    client: ClientId
    sequence: int
    time: AwareDatetime


class LiveValidation(Message):
    """The data of the live event `validation.reported`: a client measured a model."""

    session: SessionId
    round: RoundNumber
    client: ClientId
    time: AwareDatetime
    weight: Count
    metrics: Metrics


class LoggedEvent(Message):
    """The data of a log event in the event stream."""

    session: SessionId
    number: int
    sequence: int
    time: AwareDatetime
    type: str
    data: dict[str, object]
