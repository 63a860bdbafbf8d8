"""One round of a rule over rows: updates are checked one by one, then all are read again by blocks.

The same code runs in a combiner and in an auditor's replay.
"""

from fedbus_schemas.sessions import NumbersSettings

from fedbus_core.aggregation.checks import Finding
from fedbus_core.aggregation.grid import Grid
from fedbus_core.aggregation.round_sum import Content, Made, checked, grid_numbers, model_ref
from fedbus_core.aggregation.rows import Row, Source, combine
from fedbus_core.aggregation.rules.rule import RowsRule
from fedbus_core.aggregation.tensorfile import Layout


class RoundRows:
    """The updates of one round, by client. One thread at a time; it holds no update's bytes."""

    def __init__(
        self, layout: Layout, exponents: tuple[int, ...], numbers: NumbersSettings, rule: RowsRule
    ) -> None:
        """`layout` and `exponents` are the base model's, `numbers` and `rule` the session's."""
        self.rule = rule
        self._numbers = grid_numbers(numbers)
        self._grid = Grid(layout, exponents, self._numbers)
        self._rows: dict[str, Row] = {}

    def take(self, client: str, content: Content, source: Source) -> Finding | None:
        """Check an update; without a finding it is in, and `source` gives the same bytes later."""
        found = checked(self._grid, self._numbers, content)
        if isinstance(found, Finding):
            return found
        self._rows[client] = Row(found, source)
        return None

    @property
    def is_enough(self) -> bool:
        """Whether the rule has a model for so many updates."""
        return len(self._rows) >= self.rule.updates_min

    def model(self) -> Made:
        """Make the new model. Raises `ValueError` unless there are enough updates."""
        out = combine(self.rule, self._grid, [self._rows[one] for one in sorted(self._rows)])
        return Made(out, model_ref(out))
