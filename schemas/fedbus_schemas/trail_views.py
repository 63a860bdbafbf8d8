"""What the api shows of models: their tensors, their stages; and of two sessions beside each other."""

from typing import Annotated

from pydantic import AwareDatetime, ConfigDict, JsonValue, StringConstraints

from fedbus_schemas.ids import Metrics, RoundNumber, SessionId, Sha256
from fedbus_schemas.registry import StageChange, StageName
from fedbus_schemas.views import Count, Outcome, ValidationView
from fedbus_schemas.wire import Message


class TensorView(Message):
    """A tensor of a model. Statistics are over its finite elements, none when there are none.

    `deviation` is the standard deviation over all of them, `norm` the square root of the sum of squares.
    `values` are told when asked for, in row-major order; one that is not finite is null.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    parameters: Count
    zeros: Count
    not_finite: Count
    least: float | None = None
    most: float | None = None
    mean: float | None = None
    deviation: float | None = None
    norm: float | None = None
    values: tuple[float | None, ...] | None = None


class ParametersView(Message):
    """What is in a model. `parameters` counts the elements of all tensors."""

    digest: Sha256
    layout: Sha256
    size: Count
    parameters: Count
    tensors: tuple[TensorView, ...]


class StageView(Message):
    """Which model is in a stage, since when and why, and what was in it before (the last first)."""

    stage: StageName
    model: Sha256
    since: AwareDatetime
    reason: str = ""
    by: str = ""
    history: tuple[StageChange, ...] = ()


class StageRequest(Message):
    """Which model to put into a stage: by its SHA-256, or the one that is in another stage."""

    model_config = ConfigDict(extra="forbid")

    model: Sha256 | None = None
    from_stage: StageName | None = None
    reason: Annotated[str, StringConstraints(max_length=512)] = ""


class RollBackRequest(Message):
    """Why a stage is rolled back."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, StringConstraints(max_length=512)] = ""


class SettingDifference(Message):
    """A setting in which two sessions differ; none = the session does not have it."""

    setting: str
    first: JsonValue = None
    second: JsonValue = None


class ComparedRun(Message):
    """One session's side of a round in a comparison."""

    outcome: Outcome
    counted: Count
    weight: Count
    duration_s: float | None = None
    metrics: Metrics = {}
    validation: ValidationView = ValidationView()
    model: Sha256 | None = None


class ComparedRound(Message):
    """A round of two sessions; none = that session has not opened it."""

    number: RoundNumber
    first: ComparedRun | None = None
    second: ComparedRun | None = None


class ComparisonView(Message):
    """Two sessions beside each other: the settings in which they differ, and their rounds by number."""

    sessions: tuple[SessionId, SessionId]
    same_start: bool
    same_result: bool
    settings: tuple[SettingDifference, ...]
    rounds: tuple[ComparedRound, ...]
