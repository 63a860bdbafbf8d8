"""Multi-Krum: the mean of the updates with the smallest scores of Krum.

Blanchard et al., 2017, section 5. Parameters: `byzantine` (f, 1), `keep` (how many updates, n - f);
n >= 2f + 3 and n >= keep, or there is no model. All updates count alike; the kept ones are added in the
order of their clients in float64 and divided by their number.
"""

from fedbus_schemas.aggregators import Given, MultiKrum

from fedbus_core.aggregation.loading import Floats
from fedbus_core.aggregation.rules.krum import ranking
from fedbus_core.aggregation.rules.rule import Combine, Rows, RowsRule, by_distances
from fedbus_core.aggregation.rules.trimmed_mean import average


def rule(given: Given) -> RowsRule:
    """Make the rule."""
    parameters = MultiKrum.model_validate(given)
    liars = parameters.byzantine

    def plan(distances: Rows) -> Combine:
        count = len(distances)
        kept = sorted(ranking(distances, count - liars - 2)[: parameters.keep or count - liars])

        def combine(rows: Rows) -> Floats:
            return average(rows[kept])

        return combine

    return RowsRule(
        name="multi_krum",
        version=1,
        plan=by_distances(plan),
        updates_min=parameters.updates_min,
        needs_distances=True,
    )
