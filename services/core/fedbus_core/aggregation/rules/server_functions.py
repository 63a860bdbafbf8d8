"""The operator's own code makes the model: `aggregate`, or `incremental_aggregate` update by update.

The session's `server_functions` names the code by its SHA-256. Updates go to it sorted by client, as the
clients sent them. What it gives is checked as an update is, and enters the log as what it is: the result of
code that an auditor can run again, not one of exact arithmetic.
"""

from fedbus_schemas.aggregators import FunctionParameters, Given

from fedbus_core.aggregation.rules.rule import FunctionRule


def rule(given: Given) -> FunctionRule:
    """Make the rule."""
    FunctionParameters.model_validate(given)
    return FunctionRule(name="server_functions", version=1)
