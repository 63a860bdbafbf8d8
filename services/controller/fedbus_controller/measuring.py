"""What a decision adds to the metrics. Counted by the controller that appended it, so exactly once."""

from datetime import datetime, timedelta

from fedbus_core.rounds.state import Round
from fedbus_runtime.metrics import ROUND_SECONDS, ROUNDS, UPDATES
from fedbus_schemas.events import (
    AnyEvent,
    RoundClosing,
    RoundCompleted,
    RoundFailed,
    SessionStopped,
)


def count(
    before: Round | None, timeout_s: float, events: tuple[AnyEvent, ...], now: datetime
) -> None:
    """Count the events of a decision. `before` is the round that was open, `timeout_s` its time."""
    if before is None:
        return
    lasted_s = (now - (before.opened.deadline - timedelta(seconds=timeout_s))).total_seconds()
    for event in events:
        match event:
            case RoundClosing(step=1):
                ROUND_SECONDS.observe(max(0.0, lasted_s), phase="collect")
            case RoundCompleted():
                ROUNDS.add(outcome="completed")
                ROUND_SECONDS.observe(event.timings.total_s, phase="finish")
                ROUND_SECONDS.observe(max(0.0, lasted_s), phase="whole")
                UPDATES.add(len(event.counted), code="counted")
                _refused(event)
            case RoundFailed(reason=reason):
                ROUNDS.add(outcome=reason.value)
                _refused(event)
            case SessionStopped():
                ROUNDS.add(outcome="stopped")
            case _:
                pass


def _refused(event: RoundCompleted | RoundFailed) -> None:
    for one in event.refused:
        UPDATES.add(code=one.code.value)
