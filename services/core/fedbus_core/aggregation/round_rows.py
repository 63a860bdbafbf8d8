"""One round of a rule that reads every update again: each is checked and kept, then all are combined.

The same code runs in a combiner and in an auditor's replay.
"""

from typing import Generic, TypeVar

from fedbus_schemas.sessions import NumbersSettings

from fedbus_core.aggregation.checks import Finding
from fedbus_core.aggregation.grid import Grid
from fedbus_core.aggregation.round_sum import Content, Made, checked, grid_numbers, model_ref
from fedbus_core.aggregation.rows import Row, Source, combine
from fedbus_core.aggregation.rules.rule import FunctionRule, RowsRule
from fedbus_core.aggregation.tensorfile import Layout

Rule = TypeVar("Rule", bound=RowsRule | FunctionRule)


class CheckedRows(Generic[Rule]):
    """The checked updates of one round, by client. It holds no update's bytes."""

    def __init__(
        self, layout: Layout, exponents: tuple[int, ...], numbers: NumbersSettings, rule: Rule
    ) -> None:
        """`layout` and `exponents` are the base model's, `numbers` and `rule` the session's."""
        self.rule: Rule = rule
        self.rows: dict[str, Row] = {}
        self._numbers = grid_numbers(numbers)
        self.grid = Grid(layout, exponents, self._numbers)

    def take(self, client: str, content: Content, source: Source) -> Finding | None:
        """Check an update; without a finding it is in, and `source` gives the same bytes later."""
        found = checked(self.grid, self._numbers, content)
        if isinstance(found, Finding):
            return found
        self.rows[client] = Row(found, source)
        return None

    @property
    def is_enough(self) -> bool:
        """Whether the rule has a model for so many updates."""
        return len(self.rows) >= self.rule.updates_min


class RoundRows(CheckedRows[RowsRule]):
    """The updates of one round of a rule that compares them, by client. One thread at a time."""

    def model(self) -> Made:
        """Make the new model. Raises `ValueError` unless there are enough updates."""
        out = combine(self.rule, self.grid, [self.rows[one] for one in sorted(self.rows)])
        return Made(out, model_ref(out))
