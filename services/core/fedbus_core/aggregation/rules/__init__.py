"""The aggregation rules by name; a new rule is a file here, a line in this table and its parameters."""

from collections.abc import Callable

from fedbus_schemas.aggregators import Given
from fedbus_schemas.sessions import SessionSettings

from fedbus_core.aggregation.rules import (
    bulyan,
    fedadagrad,
    fedadam,
    fedavg,
    fedavgm,
    fednova,
    fedprox,
    fedyogi,
    geometric_median,
    krum,
    median,
    multi_krum,
    nearest_neighbour_mixing,
    server_functions,
    trimmed_mean,
)
from fedbus_core.aggregation.rules.rule import Rule as Rule

RULES: dict[str, Callable[[Given], Rule]] = {
    "bulyan": bulyan.rule,
    "fedadagrad": fedadagrad.rule,
    "fedadam": fedadam.rule,
    "fedavg": fedavg.rule,
    "fedavgm": fedavgm.rule,
    "fednova": fednova.rule,
    "fedprox": fedprox.rule,
    "fedyogi": fedyogi.rule,
    "geometric_median": geometric_median.rule,
    "krum": krum.rule,
    "median": median.rule,
    "multi_krum": multi_krum.rule,
    "nearest_neighbour_mixing": nearest_neighbour_mixing.rule,
    "server_functions": server_functions.rule,
    "trimmed_mean": trimmed_mean.rule,
}


def rule_of(settings: SessionSettings) -> Rule:
    """Make the session's rule."""
    return RULES[settings.aggregator](settings.aggregator_parameters)
