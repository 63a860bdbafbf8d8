"""Runs a session's server functions; what they print becomes lines of this service's log."""

import structlog
from fedbus_core.aggregation.server_functions import Aggregate, Answer
from fedbus_sandbox.host import run

_log = structlog.get_logger(__name__)


def run_and_log(call: Aggregate) -> Answer:
    """Run them in a confined process; blocks. Raises `FunctionFailed`."""
    answer = run(call)
    for line in answer.printed:
        _log.info("functions.printed", line=line)
    return answer
