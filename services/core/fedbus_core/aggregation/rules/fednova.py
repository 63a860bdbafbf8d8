"""FedNova: normalised averaging for clients that make different numbers of local steps.

    x = x + tau * sum over clients k of p_k (x_k - x) / tau_k,   p_k = n_k / N,  tau = sum of p_k tau_k

Wang et al., "Tackling the Objective Inconsistency Problem in Heterogeneous Federated Optimization", 2020,
arXiv 2007.07481, equation 7 with plain local SGD. Parameter: `steps_metric` ("local_steps"), the metric by
which a client reports tau_k, a whole number from 1 to 2^20; without it an update is refused (`invalid`).

The exact sum takes w_k = n_k / tau_k, rounded to a multiple of 1/512 and at least that: a whole number on a
grid with nine weight bits more. For the rounded w_k with sum W, and c = tau W / N as a correctly rounded
fraction, the step is x + c (a - x) for the exact mean a, in float64. Equal tau_k give `fedavg` up to rounding.
"""

from collections.abc import Mapping
from fractions import Fraction

import numpy as np
from fedbus_schemas.aggregators import FedNova, Given
from fedbus_schemas.refusals import RefusalCode

from fedbus_core.aggregation.checks import Finding
from fedbus_core.aggregation.rules.rule import Block, Opening, Step, SumRule, Weighing

PARTS = 512
BITS_MORE = 9
STEPS_MAX = 2**20


def rule(given: Given) -> SumRule:
    """Make the rule."""
    name = FedNova.model_validate(given).steps_metric

    def weigh(examples: int, metrics: Mapping[str, float]) -> int | Finding:
        steps = metrics.get(name, 0.0)
        if not (1 <= steps <= STEPS_MAX and float(steps).is_integer()):
            detail = f"metric {name!r} must be a whole number 1..{STEPS_MAX} of local steps"
            return Finding(RefusalCode.INVALID, "", detail)
        return max(1, (2 * PARTS * examples + int(steps)) // (2 * int(steps)))

    def begin(opening: Opening) -> Step:
        examples = sum(one.weight for one in opening.members)
        steps = sum(one.weight * int(one.metrics[name]) for one in opening.members)
        weights = [weigh(one.weight, one.metrics) for one in opening.members]
        shares = sum(one for one in weights if isinstance(one, int))
        factor = np.float64(float(Fraction(steps * shares, PARTS * examples * examples)))

        def block(part: Block) -> None:
            np.subtract(part.values, part.base, out=part.values)
            np.multiply(part.values, factor, out=part.values)
            np.add(part.base, part.values, out=part.values)

        return Step(block)

    weighing = Weighing(weigh, lambda bits: bits + BITS_MORE)
    return SumRule(name="fednova", version=1, weighing=weighing, open=begin)
