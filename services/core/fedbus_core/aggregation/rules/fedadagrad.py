"""FedAdagrad: steps divided by the root of all squared means so far.

    v = v + D^2, and the rest as in `adaptive`

Reddi et al., 2021, arXiv 2003.00295, algorithm 2. Parameters: `learning_rate` (0.1), `tau` (0.001), `beta1`
(0), `second_moment_start` (tau^2, the least that the paper allows; Flower has 0), `weighting` ("examples").
"""

import numpy as np
from fedbus_schemas.aggregators import FedAdagrad, Given

from fedbus_core.aggregation.loading import Floats
from fedbus_core.aggregation.rules.adaptive import steady
from fedbus_core.aggregation.rules.rule import SumRule


def rule(given: Given) -> SumRule:
    """Make the rule."""
    parameters = FedAdagrad.model_validate(given)

    def second_moment(moment: Floats, square: Floats) -> None:
        np.add(moment, square, out=moment)

    return steady("fedadagrad", parameters, second_moment)
