"""What FedAdagrad, FedYogi and FedAdam share: the first moment, and the step along it.

    D = mean - x                                       (the exact mean)
    m = beta1 * m + (1 - beta1) * D                    (m is 0 before the first round)
    v = the rule's own second moment                   (v starts at `second_moment_start`)
    x = x + learning_rate * m / (sqrt(v) + tau)

Reddi et al., "Adaptive Federated Optimization", 2021, arXiv 2003.00295, algorithm 2. All in float64, one
operation after the other in the order written; m and v are kept as float32, and as float64 for tensors
of that type. A step uses them before they are rounded.
"""

from collections.abc import Callable

import numpy as np
from fedbus_schemas.aggregators import FedAdagrad, FedYogi

from fedbus_core.aggregation.loading import Floats
from fedbus_core.aggregation.rules.rule import WEIGHINGS, Block, Step, SumRule


def stepping(
    rate: float, tau: float, beta1: float, second_moment: Callable[[Floats, Floats], None]
) -> Callable[[Block], None]:
    """Make what a round does with its blocks.

    `second_moment(v, square)` takes D^2 into v, and may write to both.
    """
    eta, small = np.float64(rate), np.float64(tau)
    kept, taken = np.float64(beta1), np.float64(1.0) - np.float64(beta1)

    def block(part: Block) -> None:
        first, second = part.moments
        delta, spare = part.values, part.spare
        np.subtract(delta, part.base, out=delta)
        np.multiply(first, kept, out=first)
        np.multiply(delta, taken, out=spare)
        np.add(first, spare, out=first)
        np.multiply(delta, delta, out=spare)
        second_moment(second, spare)
        np.sqrt(second, out=spare)
        np.add(spare, small, out=spare)
        np.multiply(first, eta, out=delta)
        np.divide(delta, spare, out=delta)
        np.add(part.base, delta, out=delta)

    return block


def steady(
    name: str,
    parameters: FedAdagrad | FedYogi,
    second_moment: Callable[[Floats, Floats], None],
) -> SumRule:
    """Make a rule whose step is the same in every round."""
    block = stepping(parameters.learning_rate, parameters.tau, parameters.beta1, second_moment)
    return SumRule(
        name=name,
        version=1,
        weighing=WEIGHINGS[parameters.weighting],
        open=lambda _: Step(block),
        moments=(0.0, parameters.second_moment_first),
    )
