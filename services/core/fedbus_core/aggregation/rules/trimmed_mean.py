"""The trimmed mean: of every coordinate the mean without the floor(trim * n) largest and smallest values.

Yin et al., 2018, arXiv 1803.01498, definition 2. Parameter: `trim` (0.2 on each side, below 0.5), taken as
the decimal number that it is written as. All updates count alike. The values that are left are added in
rising order in float64 and divided by their number; with trim = 0 it is the unweighted mean up to rounding.
"""

from fractions import Fraction

import numpy as np
from fedbus_schemas.aggregators import Given, TrimmedMean

from fedbus_core.aggregation.loading import Floats
from fedbus_core.aggregation.rules.rule import Combine, Rows, RowsRule


def rule(given: Given) -> RowsRule:
    """Make the rule."""
    trim = Fraction(repr(TrimmedMean.model_validate(given).trim))

    def plan(count: int, _: Rows | None) -> Combine:
        dropped = int(trim * count)

        def combine(rows: Rows) -> Floats:
            rows.sort(axis=0)
            return average(rows[dropped : count - dropped])

        return combine

    return RowsRule(name="trimmed_mean", version=1, plan=plan)


def average(rows: Rows) -> Floats:
    """Add rows one after the other and divide by their number."""
    total: Floats = rows[0].copy()
    for row in rows[1:]:
        np.add(total, row, out=total)
    np.divide(total, np.float64(len(rows)), out=total)
    return total
