"""Nearest-neighbour mixing: every update becomes the mean of its n - f nearest, then f are trimmed a side.

Allouah et al., "Fixing by Mixing: A Recipe for Optimal Byzantine ML under Heterogeneity", 2023, arXiv
2302.01772, algorithm 2, with the trimmed mean after it. Parameter: `byzantine` (f, 1); n > 2f or there is
no model. An update is its own nearest; of equally near ones the first client's. Rows are added in the order
of the clients, in float64.
"""

import numpy as np
from fedbus_schemas.aggregators import Given, NearestNeighbourMixing

from fedbus_core.aggregation.loading import Floats
from fedbus_core.aggregation.rules.rule import Combine, Rows, RowsRule, by_distances
from fedbus_core.aggregation.rules.trimmed_mean import average


def rule(given: Given) -> RowsRule:
    """Make the rule."""
    parameters = NearestNeighbourMixing.model_validate(given)
    liars = parameters.byzantine

    def plan(distances: Rows) -> Combine:
        count = len(distances)
        nearest = mixtures(distances, count - liars)

        def combine(rows: Rows) -> Floats:
            mixed = np.stack([average(rows[chosen]) for chosen in nearest])
            mixed.sort(axis=0)
            return average(mixed[liars : count - liars])

        return combine

    return RowsRule(
        name="nearest_neighbour_mixing",
        version=1,
        plan=by_distances(plan),
        updates_min=parameters.updates_min,
        needs_distances=True,
    )


def mixtures(distances: Rows, size: int) -> list[list[int]]:
    """Give, for each update, the places of those that it is mixed from, rising."""
    found = []
    for place, row in enumerate(distances.tolist()):
        ranked = sorted(range(len(row)), key=lambda other: (row[other], other != place, other))
        found.append(sorted(ranked[:size]))
    return found
