"""What an aggregation rule is: a value that says how updates are weighed and how the next model is made.

There are three kinds. A rule over the exact sum (`SumRule`) takes updates in any order and batches, so its
memory does not depend on how many there are. A rule over rows (`RowsRule`) compares the updates with one
another and reads them all again, block by block. For the third (`FunctionRule`) the operator's own code
makes the model. Changing one bit of a rule's results takes a new
`version`; the log names it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedbus_core.aggregation.checks import Finding
from fedbus_core.aggregation.loading import Floats

Weigh: TypeAlias = Callable[[int, Mapping[str, float]], "int | Finding"]
"""From an update's number of examples and its metrics to its weight in the sum, or why it is refused."""


@dataclass(frozen=True, slots=True)
class Member:
    """A counted update as a rule sees it, without its arrays."""

    client: str
    weight: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Block:
    """A part of one float tensor in float64. `values` holds the mean and then the new model.

    `moments` are the rule's own arrays, to be changed in place; `spare` may be written to.
    """

    name: str
    base: Floats
    values: Floats
    moments: tuple[Floats, ...]
    spare: Floats


@dataclass(frozen=True, slots=True)
class Step:
    """What a rule does with the blocks of one round, and the factors that it remembers after it."""

    block: Callable[[Block], None]
    factors: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Opening:
    """What a step is made from: the factors remembered (none before the first round), the members."""

    factors: tuple[float, ...] | None
    members: Sequence[Member]


def by_examples(examples: int, _: Mapping[str, float]) -> int:
    """Weigh an update by its number of examples."""
    return examples


def uniformly(_: int, __: Mapping[str, float]) -> int:
    """Weigh all updates alike."""
    return 1


@dataclass(frozen=True, slots=True)
class Weighing:
    """How updates are weighed, and the grid's `weight_bits` that it takes, from the session's."""

    weigh: Weigh
    bits: Callable[[int], int]


WEIGHINGS: Mapping[str, Weighing] = {
    "examples": Weighing(by_examples, lambda bits: bits),
    # All bits that no weight needs make the grid finer.
    "uniform": Weighing(uniformly, lambda _: 0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SumRule:
    """A rule over the exact weighted mean. Without `open` the mean is the new model.

    `moments` are where each array that it remembers starts, one beside every float tensor; `factors` is
    how many numbers it remembers.
    """

    name: str
    version: int
    weighing: Weighing = WEIGHINGS["examples"]
    open: Callable[[Opening], Step] | None = None
    moments: tuple[float, ...] = ()
    factors: int = 0

    @property
    def id(self) -> str:
        """What the log calls it."""
        return f"{self.name}/{self.version}"

    @property
    def updates_min(self) -> int:
        """One update has a mean."""
        return 1

    @property
    def remembers(self) -> bool:
        """Whether it has a state that goes from round to round."""
        return bool(self.moments) or self.factors > 0


Rows: TypeAlias = NDArray[np.float64]
"""A block of every update: one row a client, sorted by client, without -0.0. It may be written to."""
Combine: TypeAlias = Callable[[Rows], Floats]
"""From a block of every update to the new model's block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsRule:
    """A rule that compares the updates with one another; every update counts alike.

    `plan` is given the number of updates and the squared distances between each two, in float64, or
    None unless `needs_distances`. Below `updates_min` updates there is no model.
    """

    name: str
    version: int
    plan: Callable[[int, Rows | None], Combine]
    updates_min: int = 1
    needs_distances: bool = False

    @property
    def id(self) -> str:
        """What the log calls it."""
        return f"{self.name}/{self.version}"

    @property
    def remembers(self) -> bool:
        """It has no state."""
        return False


def by_distances(plan: Callable[[Rows], Combine]) -> Callable[[int, Rows | None], Combine]:
    """Make the `plan` of a rule that `needs_distances` and is planned by them alone."""

    def planned(_: int, distances: Rows | None) -> Combine:
        assert distances is not None, "the rule asks for distances"
        return plan(distances)

    return planned


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionRule:
    """The operator's own code makes the model; it runs in a process of its own (server functions)."""

    name: str
    version: int
    updates_min: int = 1

    @property
    def id(self) -> str:
        """What the log calls it."""
        return f"{self.name}/{self.version}"

    @property
    def remembers(self) -> bool:
        """The attributes of the functions' object go from round to round."""
        return True


Rule: TypeAlias = SumRule | RowsRule | FunctionRule
