"""Rounds of an aggregation rule without any service: arrays in, arrays out, as a combiner computes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from fedbus_core.aggregation.grid import exponents_of
from fedbus_core.aggregation.round_sum import Content, Made, RoundSum
from fedbus_core.aggregation.rules import rule_of
from fedbus_core.aggregation.rules.rule import Member, SumRule
from fedbus_core.aggregation.tensorfile import Array, parse_layout, views, write
from fedbus_schemas.sessions import SessionSettings


def client(number: int) -> str:
    """A pseudonym, in the order of the numbers."""
    letters = "abcdefghijklmnopqrstuvwxyz234567"
    digits = [letters[(number >> shift) % 32] for shift in range(75, -5, -5)]
    return "c" + "".join(sorted(digits[:-3]) + digits[-3:])


def settings(aggregator: str, **parameters: object) -> SessionSettings:
    """A session's settings by this rule."""
    given = {"aggregator": aggregator, "aggregator_parameters": parameters}
    return SessionSettings.model_validate({**given, "minimum": 100})


@dataclass(slots=True)
class Update:
    """What one client sends."""

    arrays: Mapping[str, Array]
    weight: int = 1
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Play:
    """A model that goes from round to round, with what its rule remembers."""

    settings: SessionSettings
    model: bytes
    state: bytes | None = None

    def round(self, updates: Sequence[Update]) -> dict[str, Array]:
        """Make the next model from these clients' updates."""
        made = self.make(updates)
        self.model, self.state = (
            bytes(made.model),
            None if made.state is None else bytes(made.state),
        )
        return self.arrays

    def make(self, updates: Sequence[Update], batches: Sequence[Sequence[int]] = ()) -> Made:
        """Make the next model, folding the updates in these batches; nothing is remembered here."""
        layout = parse_layout(self.model, len(self.model))
        rule = rule_of(self.settings)
        assert isinstance(rule, SumRule)
        exponents = exponents_of(layout, self.model)
        total = RoundSum(layout, exponents, self.settings.numbers, rule)
        for batch in batches or [range(len(updates))]:
            partial = RoundSum(layout, exponents, self.settings.numbers, rule)
            found = partial.add([self._content(updates[place]) for place in batch])
            assert not any(found), found
            total.merge(partial.total.to_bytes())
        members = [Member(client(i), one.weight, one.metrics) for i, one in enumerate(updates)]
        state = None if self.state is None else bytearray(self.state)
        return total.model(self.model, state, members)

    @property
    def arrays(self) -> dict[str, Array]:
        """The model's arrays."""
        return views(parse_layout(self.model, len(self.model)), self.model)

    def _content(self, update: Update) -> Content:
        return Content(write(update.arrays), update.weight, update.metrics)


def play(aggregator: str, start: Array, **parameters: object) -> Play:
    """Begin with one array called `x`."""
    return Play(settings(aggregator, **parameters), write({"x": start}))


def xs(arrays: Mapping[str, Array]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """The array `x` as float64."""
    return np.asarray(arrays["x"], np.float64)
