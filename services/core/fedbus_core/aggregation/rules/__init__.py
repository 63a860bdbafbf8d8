"""The aggregation rules by name; a new rule is a new file and a line here."""

from fedbus_core.aggregation.rules import fedavg
from fedbus_core.aggregation.rules.rule import Rule as Rule
from fedbus_core.aggregation.rules.rule import Settings as Settings

RULES: dict[str, Rule] = {fedavg.NAME: fedavg}
