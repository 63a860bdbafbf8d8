"""Krum: the update with the smallest score, the sum of its n - f - 2 smallest squared distances to others.

Blanchard et al., "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent", 2017, section 4.
Parameter: `byzantine` (f, 1); n >= 2f + 3 or there is no model. All updates count alike, a tie goes to the
first client. Distances are float64 sums of a fixed order (`rows`), added to a score in rising order.
"""

from fedbus_schemas.aggregators import Given, Krum

from fedbus_core.aggregation.loading import Floats
from fedbus_core.aggregation.rules.rule import Combine, Rows, RowsRule, by_distances


def rule(given: Given) -> RowsRule:
    """Make the rule."""
    parameters = Krum.model_validate(given)

    def plan(distances: Rows) -> Combine:
        count = len(distances)
        best = ranking(distances, count - parameters.byzantine - 2)[0]

        def combine(rows: Rows) -> Floats:
            chosen: Floats = rows[best].copy()
            return chosen

        return combine

    return RowsRule(
        name="krum",
        version=1,
        plan=by_distances(plan),
        updates_min=parameters.updates_min,
        needs_distances=True,
    )


def ranking(distances: Rows, neighbours: int) -> list[int]:
    """Give the places of the updates by rising score; ties in the order of the clients."""
    scores = []
    for place, row in enumerate(distances.tolist()):
        others = sorted(row[:place] + row[place + 1 :])[:neighbours]
        score = 0.0
        for one in others:
            score += one
        scores.append((score, place))
    return [place for _, place in sorted(scores)]
