"""The geometric median: the point with the smallest sum of distances to the updates.

Weiszfeld's iteration as in Pillutla, Kakade, Harchaoui, "Robust Aggregation for Federated Learning", 2022,
arXiv 1912.13445, algorithm 2: from equal weights, w_i = 1 / max(smoothing, ||z - x_i||) of the weighted mean
z, divided by their sum, `steps` (64) times; `smoothing` (1e-6). All updates count alike.

z is never made on the way: ||z - x_i||^2 = sum_k w_k D_ik - 1/2 sum_kl w_k w_l D_kl for the squared
distances D. These sums are correctly rounded (`math.fsum`), so their order does not matter; the last
weighted mean is added in the order of the clients, in float64.
"""

import math

import numpy as np
from fedbus_schemas.aggregators import GeometricMedian, Given

from fedbus_core.aggregation.loading import Floats
from fedbus_core.aggregation.rules.rule import Combine, Rows, RowsRule, by_distances


def rule(given: Given) -> RowsRule:
    """Make the rule."""
    parameters = GeometricMedian.model_validate(given)

    def plan(distances: Rows) -> Combine:
        count = len(distances)
        weights = [1.0 / count] * count
        for _ in range(parameters.steps):
            weights = _step(distances, weights, parameters.smoothing)

        def combine(rows: Rows) -> Floats:
            total: Floats = np.multiply(rows[0], np.float64(weights[0]))
            for row, weight in zip(rows[1:], weights[1:], strict=True):
                np.multiply(row, np.float64(weight), out=row)
                np.add(total, row, out=total)
            return total

        return combine

    return RowsRule(
        name="geometric_median", version=1, plan=by_distances(plan), needs_distances=True
    )


def _step(distances: Rows, weights: list[float], smoothing: float) -> list[float]:
    array = np.array(weights)
    shares = [math.fsum(np.multiply(row, array).tolist()) for row in distances]
    spread = 0.5 * math.fsum(np.multiply(np.array(shares), array).tolist())
    inverse = [1.0 / max(smoothing, math.sqrt(max(0.0, one - spread))) for one in shares]
    total = math.fsum(inverse)
    return [one / total for one in inverse]
