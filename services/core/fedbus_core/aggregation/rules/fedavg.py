"""Federated averaging: the mean of the clients' models, weighted by their numbers of examples.

new = sum over clients k of (n_k / N) * x_k, with N = sum of the n_k. McMahan et al., "Communication-
Efficient Learning of Deep Networks from Decentralized Data", 2017, arXiv 1602.05629, algorithm 1.
The sum is exact on the round's grid (`exact`), so the result does not depend on the order of updates.
"""

from collections.abc import Iterator
from typing import Final

from fedbus_core.aggregation.exact import Accumulator
from fedbus_core.aggregation.rules.rule import Settings
from fedbus_core.aggregation.tensorfile import Buffer

NAME: Final = "fedavg"
VERSION: Final = 1


def next_model(previous: Buffer | None, total: Accumulator, settings: Settings) -> Iterator[bytes]:
    """Give the weighted mean. It has no settings: any raise `ValueError`, as an empty sum does."""
    if settings:
        raise ValueError(f"{NAME} takes no settings, got {sorted(settings)}")
    return total.mean(previous)
