"""What an aggregation rule is: from the round's base model and the sum of its updates to a new model."""

from collections.abc import Iterator, Mapping
from typing import Protocol, TypeAlias

from fedbus_core.aggregation.exact import Accumulator
from fedbus_core.aggregation.tensorfile import Buffer

Settings: TypeAlias = Mapping[str, float]


class Rule(Protocol):
    """A module of this package. Changing one bit of its results takes a new `VERSION`."""

    @property
    def NAME(self) -> str:  # noqa: N802  a module's constant
        """The name that sessions choose it by."""
        ...

    @property
    def VERSION(self) -> int:  # noqa: N802  a module's constant
        """Stands in the round's event; replay keeps the code of old versions."""
        ...

    def next_model(
        self, previous: Buffer | None, total: Accumulator, settings: Settings
    ) -> Iterator[bytes]:
        """Give the new model's canonical file in pieces, by portable operations only.

        `previous` is the round's base model, a whole file, or None where the rule has no use for
        it. Raises `ValueError` for an empty sum.
        """
        ...
