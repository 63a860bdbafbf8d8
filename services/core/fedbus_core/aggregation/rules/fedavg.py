"""Federated averaging: the mean of the clients' models, weighted by their numbers of examples.

    new = sum over clients k of (n_k / N) * x_k,  N = sum of the n_k

McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", 2017, arXiv
1602.05629, algorithm 1. Parameters: `weighting` ("examples"; "uniform" takes n_k = 1).
The sum is exact on the round's grid (`exact`), so the result does not depend on the order of updates.
"""

from fedbus_schemas.aggregators import FedAvg, Given

from fedbus_core.aggregation.rules.rule import WEIGHINGS, SumRule


def rule(given: Given) -> SumRule:
    """Make the rule."""
    parameters = FedAvg.model_validate(given)
    return SumRule(name="fedavg", version=1, weighing=WEIGHINGS[parameters.weighting])
