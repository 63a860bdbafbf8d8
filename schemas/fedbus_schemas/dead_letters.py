"""Dead letters: messages that nobody could handle, and what an operator does with them.

A dead letter is the message as it was, in the stream DEAD, with the headers named here. It stays until an
operator has it delivered again or drops it (or until it is too old).
"""

from enum import StrEnum
from typing import Annotated

from pydantic import AwareDatetime, Field, StringConstraints

from fedbus_schemas.wire import Message

CODE = "Dead-Code"
DETAIL = "Dead-Detail"
SEQUENCE = "Dead-Sequence"
"""The message's sequence in its own stream."""
DELIVERIES = "Dead-Deliveries"
ORIGINAL_ID = "Original-Id"
"""The id of a message that is delivered again under a new one: whoever did it before knows it by this."""
MESSAGE_ID = "Nats-Msg-Id"

DELIVERIES_USED_UP = "deliveries_used_up"
"""The code of a message that nobody could handle and nobody refused."""
MEANINGS = {
    DELIVERIES_USED_UP: "Every try failed, or whoever held the message died; the detail says how the "
    "last try ended. Find the cause in the service's log, then retry."
}


class Redo(Message):
    """Deliver a dead letter again. `letter` is its sequence in DEAD, `by` who asked."""

    letter: Annotated[int, Field(ge=1)]
    by: Annotated[str, StringConstraints(max_length=256)] = ""


class LetterFate(StrEnum):
    """What was done with a dead letter."""

    RETRIED = "retried"
    DROPPED = "dropped"


class LetterNote(Message):
    """What an operator did with a dead letter, as NOTES keeps it."""

    letter: Annotated[int, Field(ge=1)]
    fate: LetterFate
    by: Annotated[str, StringConstraints(max_length=256)] = ""
    stream: str
    subject: str
    code: str
    detail: str = ""
    buried: AwareDatetime
