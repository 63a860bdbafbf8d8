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


def _plan(count: int, _: Rows | None) -> Combine:
    low, high = (count - 1) // 2, count // 2

    def combine(rows: Rows) -> Floats:
        rows.sort(axis=0)
        middle: Floats = np.add(rows[low], rows[high])
        np.multiply(middle, np.float64(0.5), out=middle)
        return middle

    return combine
