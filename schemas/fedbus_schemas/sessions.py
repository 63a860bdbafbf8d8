"""A session: its settings, and the commands an operator gives it."""

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import (
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from fedbus_schemas.aggregators import Given, Parameters, parameters_of
from fedbus_schemas.ids import SETTINGS_MAX, SessionId, SessionName, Settings
from fedbus_schemas.models import INLINE_BYTES_MAX, BlobRef, ModelRef, PackageRef
from fedbus_schemas.selection import ClientQuery
from fedbus_schemas.wire import Message

COHORT_SIZE_MAX = 2_000
ROUNDS_MAX = 100_000


RoundTimeout = Annotated[float, Field(gt=0, le=30 * 86_400)]


class BelowMinimum(StrEnum):
    """What happens when the attempts of a round are used up below the minimum."""

    WAIT = "wait"
    FAIL = "fail"


class ServerMethod(StrEnum):
    """What an operator's own code at the server may do; the names are FEDn's."""

    AGGREGATE = "aggregate"
    CLIENT_SELECTION = "client_selection"
    CLIENT_SETTINGS = "client_settings"
    GET_INCREMENTAL_AGGREGATE_MODEL = "get_incremental_aggregate_model"
    INCREMENTAL_AGGREGATE = "incremental_aggregate"


MAKES_MODELS = frozenset({ServerMethod.AGGREGATE, ServerMethod.INCREMENTAL_AGGREGATE})


class ServerFunctions(Message):
    """An operator's own code at the server, pinned by its SHA-256, and what it may use in one call."""

    model_config = ConfigDict(extra="forbid")

    code: BlobRef
    methods: Annotated[tuple[ServerMethod, ...], Field(min_length=1)]
    seconds_max: Annotated[float, Field(gt=0, le=86_400)] = Field(
        default=600.0, description="Seconds that one call may take."
    )
    memory_mb: Annotated[int, Field(ge=64, le=1_048_576)] = Field(
        default=2_048,
        description="MiB of memory that a call may take, beside the files it is given.",
    )

    @property
    def makes_models(self) -> bool:
        """Whether the code aggregates."""
        return not MAKES_MODELS.isdisjoint(self.methods)


class NumbersSettings(Message):
    """The exact-sum rule's parameters (numerics page, section 1), fixed for the whole session."""

    model_config = ConfigDict(extra="forbid")

    weight_bits: Annotated[int, Field(ge=0, le=29)] = 20
    cohort_bits: Annotated[int, Field(ge=1, le=20)] = 11
    growth_bits: Annotated[int, Field(ge=1, le=12)] = 6
    wide: Annotated[tuple[str, ...], Field(max_length=1024)] = ()


class SessionSettings(Message):
    """All that a session is asked to be. Unknown fields are refused: a typo must not pass silently."""

    model_config = ConfigDict(extra="forbid")

    name: SessionName = ""
    rounds: Annotated[int, Field(ge=1, le=ROUNDS_MAX)] = Field(
        default=5, description="How many rounds to complete."
    )
    invited: Annotated[int, Field(ge=1, le=COHORT_SIZE_MAX)] | None = Field(
        default=None, description="Clients asked in each round; none = all that are online."
    )
    target: Annotated[int, Field(ge=1, le=COHORT_SIZE_MAX)] | None = Field(
        default=None, description="Close the round at this many updates; none = all invited."
    )
    minimum: Annotated[int, Field(ge=1, le=COHORT_SIZE_MAX)] = Field(
        default=1, description="Valid updates without which a round does not count."
    )
    round_timeout_s: RoundTimeout = Field(
        default=180.0, description="Seconds from a round's opening to its deadline."
    )
    grace_s: Annotated[float, Field(ge=0, le=86_400)] = Field(
        default=10.0,
        description="Extra seconds when the deadline fired late because the bus was down.",
    )
    attempts_max: Annotated[int, Field(ge=1, le=100)] = Field(
        default=3, description="Attempts of one round before `below_minimum` decides."
    )
    below_minimum: BelowMinimum = Field(
        default=BelowMinimum.WAIT, description="Wait for more clients, or fail the session."
    )
    aggregator: Annotated[str, StringConstraints(max_length=64)] = Field(
        default="fedavg", description="The aggregation rule; `GET /v1/aggregators` lists them."
    )
    aggregator_parameters: Settings = Field(
        default={}, validate_default=True, description="The rule's parameters; none = its defaults."
    )
    numbers: NumbersSettings = NumbersSettings()
    train: Settings = Field(default={}, description="Handed to every client's train function.")
    local_packages: bool = Field(
        default=True,
        description="Whether clients may run code of their own. If not, they are asked to decline; "
        "only their honesty keeps it.",
    )
    validate_models: bool = Field(
        default=True, alias="validate", description="Validate each new model."
    )
    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(
        default=0, description="Fixes the choice of cohorts and the clients' seeds."
    )
    batch_size: Annotated[int, Field(ge=1, le=COHORT_SIZE_MAX)] = Field(
        default=32, description="Updates in one fold item; a round of no more needs no partial."
    )
    inline_bytes_max: Annotated[int, Field(ge=0, le=INLINE_BYTES_MAX)] = Field(
        default=INLINE_BYTES_MAX,
        description="Models and updates up to this size ride inside messages.",
    )
    clients: ClientQuery | None = Field(
        default=None,
        description="Whom rounds may ask: clients by name and by their attributes; none = all. "
        "Looked at anew when a round opens.",
    )
    model_prefix: Annotated[str, StringConstraints(max_length=64)] = Field(
        default="", description="Models are named so, with their round's number after it."
    )
    keep_updates: bool = Field(
        default=True,
        description="Keep the clients' updates until the session is archived; false = delete them "
        "after each round, which then cannot be replayed.",
    )
    helper: Annotated[str, StringConstraints(max_length=64)] = Field(
        default="",
        description="The clients' model helper, for the record; none = their own choice.",
    )

    functions: ServerFunctions | None = Field(
        default=None,
        description="The operator's own code at the server, as `POST /v1/server-functions` gives it.",
    )

    @field_validator("aggregator_parameters")
    @classmethod
    def _all_parameters(cls, given: Given, info: ValidationInfo) -> Given:
        """Keep every parameter of the rule, also those that were not given."""
        aggregator = info.data.get("aggregator")
        return given if aggregator is None else parameters_of(aggregator, given).given

    @property
    def parameters(self) -> Parameters:
        """The rule's parameters, typed."""
        return parameters_of(self.aggregator, self.aggregator_parameters)

    @model_validator(mode="after")
    def _minimum_is_enough_for_the_rule(self) -> Self:
        needed = self.parameters.updates_min
        if self.minimum < needed:
            raise ValueError(
                f"{self.aggregator} with these parameters needs {needed} updates: "
                f"set minimum to {needed} or more, it is {self.minimum}"
            )
        bits = self.parameters.weight_bits_max
        if self.numbers.weight_bits > bits:
            raise ValueError(f"{self.aggregator} takes weight_bits of {bits} at most")
        if len(self.train.keys() | self.parameters.for_clients.keys()) > SETTINGS_MAX:
            raise ValueError(
                f"train: with what {self.aggregator} adds, over {SETTINGS_MAX} entries"
            )
        return self

    @model_validator(mode="after")
    def _functions_make_the_models(self) -> Self:
        makes = self.functions is not None and self.functions.makes_models
        if makes != (self.aggregator == "server_functions"):
            raise ValueError(
                f"aggregator {self.aggregator!r}: server functions that aggregate go with the "
                "aggregator 'server_functions', and it with them"
            )
        return self

    @model_validator(mode="after")
    def _numbers_agree(self) -> Self:
        if self.invited is not None and self.target is not None and self.target > self.invited:
            raise ValueError(f"target {self.target} is above invited {self.invited}")
        ceiling = self.target or self.invited
        if ceiling is not None and self.minimum > ceiling:
            raise ValueError(
                f"minimum {self.minimum} is above {ceiling}, the most a round can close with"
            )
        most = self.invited or COHORT_SIZE_MAX
        bits = self.numbers.cohort_bits
        if most > 2**bits:
            raise ValueError(f"cohort_bits {bits} is too small for {most} updates")
        return self


class StartSession(Message):
    """Begin a session from a model that lies in the object store. `package` is what its clients run, if any."""

    kind: Literal["start"] = "start"
    session: SessionId
    settings: SessionSettings
    model: ModelRef
    package: PackageRef | None = None


class PauseSession(Message):
    """Finish the open round, then open no further one."""

    kind: Literal["pause"] = "pause"


class ResumeSession(Message):
    """Go on after a pause."""

    kind: Literal["resume"] = "resume"


class StopSession(Message):
    """End the session now; the open round is given up."""

    kind: Literal["stop"] = "stop"
    reason: Annotated[str, StringConstraints(max_length=512)] = "stopped by an operator"


class ExtendSession(Message):
    """Add rounds to a session, also to one that has completed all it had.

    `round_timeout_s` holds for the rounds that open from then on; none = as before.
    """

    kind: Literal["extend"] = "extend"
    rounds: Annotated[int, Field(ge=1, le=ROUNDS_MAX)]
    round_timeout_s: RoundTimeout | None = None


class ArchiveSession(Message):
    """Close a session that has ended, for good: its stored updates are deleted, its log is kept."""

    kind: Literal["archive"] = "archive"


Command = Annotated[
    StartSession | PauseSession | ResumeSession | StopSession | ExtendSession | ArchiveSession,
    Field(discriminator="kind"),
]
