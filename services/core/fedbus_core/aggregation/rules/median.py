"""The coordinate-wise median: of every coordinate the middle value, or the mean of the two middle ones.

Yin et al., "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates", 2018, arXiv
1803.01498, definition 1. No parameters; all updates count alike. Sorting has one result, and the mean of
two is (a + b) * 0.5 in float64.
"""

import numpy as np
from fedbus_schemas.aggregators import Given, Median

from fedbus_core.aggregation.loading import Floats
from fedbus_core.aggregation.rules.rule import Combine, Rows, RowsRule


def rule(given: Given) -> RowsRule:
    """Make the rule."""
    Median.model_validate(given)
    return RowsRule(name="median", version=1, plan=_plan)


def _plan(_: int, __: Rows | None) -> Combine:
    def combine(rows: Rows) -> Floats:
        rows.sort(axis=0)
        return middle(rows)

    return combine


def middle(rows: Rows) -> Floats:
    """Give the middle value of sorted rows, or the mean of the two middle ones."""
    found: Floats = np.add(rows[(len(rows) - 1) // 2], rows[len(rows) // 2])
    np.multiply(found, np.float64(0.5), out=found)
    return found
