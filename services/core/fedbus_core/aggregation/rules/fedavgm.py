"""Federated averaging with server momentum.

    u = momentum * u + (x - mean)      (u is 0 before the first round)
    x = x - learning_rate * u

Hsu, Qi, Brown, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual
Classification", 2019, arXiv 1909.06335, section 4. No Nesterov step. Parameters: `learning_rate` (1.0),
`momentum` (0.9), `weighting` ("examples"). The mean is the exact one; the step is float64 in this order.
With learning_rate 1 and momentum 0 it is `fedavg` up to the rounding of x - (x - mean).
"""

import numpy as np
from fedbus_schemas.aggregators import FedAvgM, Given

from fedbus_core.aggregation.rules.rule import WEIGHINGS, Block, Opening, Step, SumRule


def rule(given: Given) -> SumRule:
    """Make the rule."""
    parameters = FedAvgM.model_validate(given)
    rate, momentum = np.float64(parameters.learning_rate), np.float64(parameters.momentum)

    def block(part: Block) -> None:
        (direction,) = part.moments
        np.multiply(direction, momentum, out=direction)
        np.subtract(part.base, part.values, out=part.values)
        np.add(direction, part.values, out=direction)
        np.multiply(direction, rate, out=part.values)
        np.subtract(part.base, part.values, out=part.values)

    def begin(_: Opening) -> Step:
        return Step(block)

    return SumRule(
        name="fedavgm",
        version=1,
        weighing=WEIGHINGS[parameters.weighting],
        open=begin,
        moments=(0.0,),
    )
