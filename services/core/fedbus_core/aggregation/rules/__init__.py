"""The aggregation rules by name; a new rule is a file here, a line in this table and its parameters."""

from collections.abc import Callable

from fedbus_schemas.aggregators import Given
from fedbus_schemas.sessions import SessionSettings

from fedbus_core.aggregation.rules import fedadagrad, fedadam, fedavg, fedavgm, fedprox, fedyogi
from fedbus_core.aggregation.rules.rule import SumRule as SumRule

RULES: dict[str, Callable[[Given], SumRule]] = {
    "fedadagrad": fedadagrad.rule,
    "fedadam": fedadam.rule,
    "fedavg": fedavg.rule,
    "fedavgm": fedavgm.rule,
    "fedprox": fedprox.rule,
    "fedyogi": fedyogi.rule,
}


def rule_of(settings: SessionSettings) -> SumRule:
    """Make the session's rule."""
    return RULES[settings.aggregator](settings.aggregator_parameters)
