"""What became of an update of an earlier attempt: found in the entries of the log."""

from collections.abc import Iterable

from fedbus_schemas.events import AnyEvent, RoundCompleted, RoundFailed, RoundOpened
from fedbus_schemas.ids import ClientId
from fedbus_schemas.tasks import Receipt

from fedbus_core.rounds.mail import receipt
from fedbus_core.rounds.state import Outcome


def receipt_from(
    events: Iterable[AnyEvent], round_number: int, attempt: int, client: ClientId
) -> Receipt | None:
    """Give the receipt for an attempt that has ended; None when the log does not know of its end.

    An attempt that was opened but neither completed nor failed ended with its session: it was given up,
    which the caller knows from the session's state.
    """
    opened: RoundOpened | None = None
    for event in events:
        if isinstance(event, RoundOpened) and (event.round, event.attempt) == (
            round_number,
            attempt,
        ):
            opened = event
        if opened is None or not isinstance(event, RoundCompleted | RoundFailed):
            continue
        if (event.round, event.attempt) != (round_number, attempt):
            continue
        return receipt(Outcome.of(opened, event), client)
    return None
