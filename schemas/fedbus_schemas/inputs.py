"""Everything a controller decides on arrives as one of these: commands, results, fired deadlines, notices."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from fedbus_schemas.ids import AttemptNumber, RoundNumber
from fedbus_schemas.sessions import (
    ArchiveSession,
    ExtendSession,
    PauseSession,
    ResumeSession,
    StartSession,
    StopSession,
)
from fedbus_schemas.wire import Message
from fedbus_schemas.work import FinishResult


class DeadlineFired(Message):
    """The scheduled message of a round's deadline, or of a waiting session's next look.

    `due` is the time it was meant for: one that was moved since is told by it, without any clock.
    """

    kind: Literal["deadline"] = "deadline"
    round: RoundNumber
    attempt: AttemptNumber
    due: AwareDatetime


class TargetReached(Message):
    """A combiner has counted enough stored updates to close. A request, repeated until it is answered."""

    kind: Literal["target"] = "target"
    round: RoundNumber
    attempt: AttemptNumber


class ClientsChanged(Message):
    """Clients came online; a waiting session may open its round now."""

    kind: Literal["clients"] = "clients"


Input = Annotated[
    StartSession
    | PauseSession
    | ResumeSession
    | StopSession
    | ExtendSession
    | ArchiveSession
    | FinishResult
    | DeadlineFired
    | TargetReached
    | ClientsChanged,
    Field(discriminator="kind"),
]
