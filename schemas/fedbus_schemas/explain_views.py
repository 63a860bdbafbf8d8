"""What the api says of why a round went as it did: each client's part, and where the time went."""

from enum import StrEnum
from typing import Annotated

from pydantic import AwareDatetime, Field

from fedbus_schemas.events import ClosingReason
from fedbus_schemas.ids import AttemptNumber, ClientId, RoundNumber, SessionId
from fedbus_schemas.views import Count, Outcome
from fedbus_schemas.wire import Message


class Standing(StrEnum):
    """What a client had to do with an attempt: the first eight were asked, the others were not."""

    COUNTED = "counted"
    REFUSED = "refused"
    DECLINED = "declined"
    LATE = "late"
    GIVEN_UP = "given_up"
    MISSING = "missing"
    STORED = "stored"
    ASKED = "asked"
    NOT_DRAWN = "not_drawn"
    NOT_MEANT = "not_meant"
    NOT_ONLINE = "not_online"
    NOT_JOINED = "not_joined"


class ClientExplanation(Message):
    """One client's part in an attempt, and why, in words. `stored_s` is seconds after the opening."""

    client: ClientId
    name: str = ""
    standing: Standing
    why: str
    code: str | None = None
    stored_s: float | None = None


class PhaseView(Message):
    """A stretch of an attempt: what was waited for or done, how long it took, and who or what held it."""

    name: str
    seconds: Annotated[float, Field(ge=0)]
    why: str = ""


class ExplanationView(Message):
    """Why an attempt went as it did.

    `counts` is over all clients by standing; `clients` are those that were asked for, the asked ones first,
    `left_out` how many more there are. `phases` follow each other from the opening to the end; `longest`
    names the one that took most.
    """

    session: SessionId
    number: RoundNumber
    attempt: AttemptNumber
    outcome: Outcome
    summary: str
    opened: AwareDatetime
    closed_by: ClosingReason | None = None
    counts: dict[Standing, int] = {}
    clients: tuple[ClientExplanation, ...] = ()
    left_out: Count = 0
    phases: tuple[PhaseView, ...] = ()
    longest: str = ""
