"""FedAdam: steps divided by the root of a running mean of squared means.

    v = beta2 * v + (1 - beta2) * D^2, and the rest as in `adaptive`

Reddi et al., 2021, arXiv 2003.00295, algorithm 2, which corrects no bias. Parameters: `learning_rate` (0.1),
`tau` (0.001), `beta1` (0.9), `beta2` (0.99), `weighting` ("examples"), `second_moment_start` (tau^2, or 0
with a correction), and `bias_correction` (none):

    adam     x = x + learning_rate * m' / (sqrt(v') + tau), m' = m / (1 - beta1^t), v' = v / (1 - beta2^t),
             t = 1 in the first round (Kingma, Ba, 2015, arXiv 1412.6980, algorithm 1)
    flower   x = x + learning_rate * sqrt(1 - beta2^(t+1)) / (1 - beta1^(t+1)) * m / (sqrt(v) + tau),
             what flwr 1.42 computes: one exponent ahead, and tau is left as it is

beta1^t and beta2^t are running products in the state, never powers.
"""

import math

import numpy as np
from fedbus_schemas.aggregators import FedAdam, Given

from fedbus_core.aggregation.loading import Floats
from fedbus_core.aggregation.rules.adaptive import stepping
from fedbus_core.aggregation.rules.rule import WEIGHINGS, Opening, Step, SumRule


def rule(given: Given) -> SumRule:
    """Make the rule."""
    parameters = FedAdam.model_validate(given)
    beta1, beta2 = parameters.beta1, parameters.beta2
    kept, taken = np.float64(beta2), np.float64(1.0) - np.float64(beta2)

    def second_moment(moment: Floats, square: Floats) -> None:
        np.multiply(moment, kept, out=moment)
        np.multiply(square, taken, out=square)
        np.add(moment, square, out=moment)

    def begin(opening: Opening) -> Step:
        last1, last2 = opening.factors or (1.0, 1.0)
        power1, power2 = last1 * beta1, last2 * beta2
        rate, tau = parameters.learning_rate, parameters.tau
        if parameters.bias_correction == "adam":
            # m' / (sqrt(v') + tau) with both fractions' denominators taken out of the blocks.
            root = math.sqrt(1.0 - power2)
            rate, tau = rate * root / (1.0 - power1), tau * root
        elif parameters.bias_correction == "flower":
            rate = rate * math.sqrt(1.0 - power2 * beta2) / (1.0 - power1 * beta1)
        return Step(stepping(rate, tau, beta1, second_moment), (power1, power2))

    return SumRule(
        name="fedadam",
        version=1,
        weighing=WEIGHINGS[parameters.weighting],
        open=begin,
        moments=(0.0, parameters.second_moment_first),
        factors=2,
    )
