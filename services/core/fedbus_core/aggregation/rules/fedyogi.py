"""FedYogi: as FedAdam, but the second moment moves by its distance's sign only.

    v = v - (1 - beta2) * D^2 * sign(v - D^2), and the rest as in `adaptive`

Reddi et al., 2021, arXiv 2003.00295, algorithm 2. Parameters: `learning_rate` (0.01), `tau` (0.001), `beta1`
(0.9), `beta2` (0.99), `second_moment_start` (tau^2; Flower has 0), `weighting` ("examples").
"""

import numpy as np
from fedbus_schemas.aggregators import FedYogi, Given

from fedbus_core.aggregation.loading import Floats
from fedbus_core.aggregation.rules.adaptive import steady
from fedbus_core.aggregation.rules.rule import SumRule


def rule(given: Given) -> SumRule:
    """Make the rule."""
    parameters = FedYogi.model_validate(given)
    taken = np.float64(1.0) - np.float64(parameters.beta2)

    def second_moment(moment: Floats, square: Floats) -> None:
        sign = np.sign(np.subtract(moment, square))
        np.multiply(square, taken, out=square)
        np.multiply(square, sign, out=square)
        np.subtract(moment, square, out=moment)

    return steady("fedyogi", parameters, second_moment)
