"""FedProx: federated averaging of clients that are held back by a proximal term.

Each client minimises F_k(w) + (mu / 2) * ||w - w_t||^2 for the round's model w_t, and the server takes the
weighted mean, as `fedavg` does. Li et al., "Federated Optimization in Heterogeneous Networks", 2020, arXiv
1812.06127, algorithm 2. Parameters: `mu` (0.01), told to the trainers as `settings["proximal_mu"]`
(the SDK module `fedbus.proximal` has the term); `weighting` ("examples"). With mu = 0 it is `fedavg`.
"""

from fedbus_schemas.aggregators import FedProx, Given

from fedbus_core.aggregation.rules.rule import WEIGHINGS, SumRule


def rule(given: Given) -> SumRule:
    """Make the rule."""
    parameters = FedProx.model_validate(given)
    return SumRule(name="fedprox", version=1, weighing=WEIGHINGS[parameters.weighting])
