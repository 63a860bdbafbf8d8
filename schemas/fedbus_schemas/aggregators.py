"""The aggregation rules that a session can choose, and the parameters of each, with their defaults.

A session names a rule (`aggregator`) and gives some of its parameters; the log keeps all of them, so
that what a session means never depends on a default. Formulas and sources stand with the rules
(`fedbus_core.aggregation.rules`) and on the page "aggregation".
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from fedbus_schemas.ids import Scalar

Rate = Annotated[float, Field(gt=0, le=1e6)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Given = dict[str, Scalar]
"""Parameters as a session gives them."""


class Parameters(BaseModel):
    """A rule's parameters. Unknown ones are refused: a typo must not pass silently."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @property
    def updates_min(self) -> int:
        """With fewer updates than this the rule has no result; a session's `minimum` is at least it."""
        return 1

    @property
    def weight_bits_max(self) -> int:
        """The most `weight_bits` that a session can have with it."""
        return 29

    @property
    def compares(self) -> bool:
        """Whether the rule compares the updates with one another, so that none can be folded ahead."""
        return False

    @property
    def given(self) -> Given:
        """All parameters, as the log keeps them."""
        return self.model_dump(exclude_none=True)

    @property
    def for_clients(self) -> Given:
        """What the clients' trainers are told, beside the session's `train` settings."""
        return {}


class Weighted(Parameters):
    """A mean of the clients' models."""

    weighting: Literal["examples", "uniform"] = Field(
        default="examples", description="Weigh updates by their numbers of examples, or all alike."
    )


class FedAvg(Weighted):
    """The mean of the clients' models."""


class FedProx(Weighted):
    """The mean, from clients that are held back by a proximal term."""

    mu: Annotated[float, Field(ge=0, le=1e6)] = Field(
        default=0.01, description="The weight of the proximal term in the clients' loss."
    )

    @property
    def for_clients(self) -> Given:
        """The clients add the proximal term."""
        return {"proximal_mu": self.mu}


class FedAvgM(Weighted):
    """Server momentum on the mean."""

    learning_rate: Rate = Field(default=1.0, description="The server's step.")
    momentum: Decay = Field(default=0.9, description="What is kept of the last direction.")


class Adaptive(Weighted):
    """What the adaptive server optimizers have in common."""

    learning_rate: Rate = Field(default=0.1, description="The server's step, eta.")
    tau: Rate = Field(default=1e-3, description="Added to the root: how adaptive the rule is.")
    second_moment_start: Annotated[float, Field(ge=0, le=1e6)] | None = Field(
        default=None, description="Where the second moment starts; none = tau squared."
    )

    @property
    def second_moment_first(self) -> float:
        """The second moment before the first round."""
        start = self.second_moment_start
        return self.tau * self.tau if start is None else start


class FedAdagrad(Adaptive):
    """Steps divided by the root of all squared means so far."""

    beta1: Decay = Field(default=0.0, description="The decay of the first moment.")


class FedYogi(Adaptive):
    """As FedAdam, its second moment moved by signs."""

    learning_rate: Rate = Field(default=0.01, description="The server's step, eta.")
    beta1: Decay = Field(default=0.9, description="The decay of the first moment.")
    beta2: Decay = Field(default=0.99, description="The decay of the second moment.")


class FedAdam(Adaptive):
    """Steps divided by the root of a running mean of squares."""

    beta1: Decay = Field(default=0.9, description="The decay of the first moment.")
    beta2: Decay = Field(default=0.99, description="The decay of the second moment.")
    bias_correction: Literal["none", "adam", "flower"] = Field(
        default="none",
        description="The paper has none; Adam's own; or Flower's, one exponent ahead of Adam's.",
    )

    @property
    def second_moment_first(self) -> float:
        """A corrected moment starts at zero: that is what is corrected."""
        if self.second_moment_start is None and self.bias_correction != "none":
            return 0.0
        return super().second_moment_first


class Comparing(Parameters):
    """A rule that needs all updates at once."""

    @property
    def compares(self) -> bool:
        """They are read again, all of them."""
        return True


class Median(Comparing):
    """The middle value of every coordinate; half of the clients may lie."""


class TrimmedMean(Comparing):
    """The mean of every coordinate without its largest and smallest values."""

    trim: Annotated[float, Field(ge=0, lt=0.5)] = Field(
        default=0.2, description="The share of values dropped on each side."
    )


class Krum(Comparing):
    """The one update that lies nearest to its neighbours."""

    byzantine: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=1, description="How many clients may lie, f."
    )

    @property
    def updates_min(self) -> int:
        """Krum needs n >= 2f + 3."""
        return 2 * self.byzantine + 3


class MultiKrum(Krum):
    """The mean of the updates that lie nearest to their neighbours."""

    keep: Annotated[int, Field(ge=1, le=2000)] | None = Field(
        default=None, description="How many updates are averaged; none = n - f."
    )

    @property
    def updates_min(self) -> int:
        """Krum's condition, and as many as are kept."""
        return max(super().updates_min, self.keep or 1)


class Bulyan(Comparing):
    """Krum's choice, then of every coordinate the values nearest the median."""

    byzantine: Annotated[int, Field(ge=0, le=500)] = Field(
        default=1, description="How many clients may lie, f."
    )

    @property
    def updates_min(self) -> int:
        """Bulyan needs n >= 4f + 3."""
        return 4 * self.byzantine + 3


class GeometricMedian(Comparing):
    """The point with the smallest sum of distances to the updates."""

    steps: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=64, description="Steps of the iteration, always as many."
    )
    smoothing: Annotated[float, Field(gt=0, le=1e6)] = Field(
        default=1e-6, description="The least distance that is divided by."
    )


class NearestNeighbourMixing(Comparing):
    """Every update mixed with its nearest neighbours, then a trimmed mean."""

    byzantine: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=1, description="How many clients may lie, f."
    )

    @property
    def updates_min(self) -> int:
        """More than half must be honest."""
        return 2 * self.byzantine + 1


class FunctionParameters(Comparing):
    """The session's own code makes the model (`server_functions`); it has no parameters here."""


class FedNova(Parameters):
    """The mean, with each client's change divided by its number of local steps."""

    steps_metric: Annotated[str, StringConstraints(min_length=1, max_length=128)] = Field(
        default="local_steps", description="The metric by which clients report their local steps."
    )

    @property
    def weight_bits_max(self) -> int:
        """Nine bits more are for fractions of a weight."""
        return 20


AGGREGATORS: dict[str, type[Parameters]] = {
    "bulyan": Bulyan,
    "fedadagrad": FedAdagrad,
    "fedadam": FedAdam,
    "fedavg": FedAvg,
    "fedavgm": FedAvgM,
    "fednova": FedNova,
    "fedprox": FedProx,
    "fedyogi": FedYogi,
    "geometric_median": GeometricMedian,
    "krum": Krum,
    "median": Median,
    "multi_krum": MultiKrum,
    "nearest_neighbour_mixing": NearestNeighbourMixing,
    "server_functions": FunctionParameters,
    "trimmed_mean": TrimmedMean,
}


def parameters_of(aggregator: str, given: Given) -> Parameters:
    """Complete a rule's parameters. Raises `ValueError` that says which rules and parameters there are."""
    kind = AGGREGATORS.get(aggregator)
    if kind is None:
        known = ", ".join(sorted(AGGREGATORS))
        raise ValueError(f"no aggregator {aggregator[:64]!r}; there are {known}")
    unknown = sorted(given.keys() - kind.model_fields.keys())
    if unknown:
        known = ", ".join(kind.model_fields)
        raise ValueError(f"{aggregator} has no parameter {unknown[0]!r}; it has {known}")
    return kind.model_validate(given)
