"""Bulyan: n - 2f updates chosen by Krum one after the other, then a trimmed mean around their median.

El Mhamdi, Guerraoui, Rouault, "The Hidden Vulnerability of Distributed Learning in Byzantium", 2018, arXiv
1802.07927, section 4. Parameter: `byzantine` (f, 1); n >= 4f + 3 or there is no model. Krum's score among m
that are left takes max(1, m - f - 2) neighbours. Of every coordinate the n - 4f values nearest the median
are added, the nearest first and of two equally near the smaller first, in float64 and divided by their number.
"""

import numpy as np
from fedbus_schemas.aggregators import Bulyan, Given

from fedbus_core.aggregation.loading import Floats
from fedbus_core.aggregation.rules.krum import ranking
from fedbus_core.aggregation.rules.median import middle
from fedbus_core.aggregation.rules.rule import Combine, Rows, RowsRule, by_distances
from fedbus_core.aggregation.rules.trimmed_mean import average


def rule(given: Given) -> RowsRule:
    """Make the rule."""
    parameters = Bulyan.model_validate(given)
    liars = parameters.byzantine

    def plan(distances: Rows) -> Combine:
        count = len(distances)
        chosen = _chosen(distances, count - 2 * liars, liars)
        nearest = len(chosen) - 2 * liars

        def combine(rows: Rows) -> Floats:
            values = rows[chosen]
            values.sort(axis=0)
            apart = np.abs(np.subtract(values, middle(values)))
            order = np.argsort(apart, axis=0, kind="stable")[:nearest]
            return average(np.take_along_axis(values, order, axis=0))

        return combine

    return RowsRule(
        name="bulyan",
        version=1,
        plan=by_distances(plan),
        updates_min=parameters.updates_min,
        needs_distances=True,
    )


def _chosen(distances: Rows, wanted: int, liars: int) -> list[int]:
    left = list(range(len(distances)))
    chosen: list[int] = []
    while len(chosen) < wanted:
        among = distances[np.ix_(left, left)]
        best = ranking(among, max(1, len(left) - liars - 2))[0]
        chosen.append(left.pop(best))
    return sorted(chosen)
