"""Work items for the combiners, and what they give back. Items are short and can be done twice."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from fedbus_schemas.events import (
    FAILURE_CHARS_MAX,
    FinishTimings,
    RefusedUpdate,
    RoundClosing,
    RoundOpened,
)
from fedbus_schemas.ids import (
    AttemptNumber,
    ClientId,
    InstanceName,
    Metrics,
    ProjectId,
    RoundNumber,
    SessionId,
)
from fedbus_schemas.models import BlobRef, ModelRef
from fedbus_schemas.sessions import SessionSettings
from fedbus_schemas.wire import Message


class FoldItem(Message):
    """Fold these stored updates into one partial. Partials are a cache, never the truth."""

    kind: Literal["fold"] = "fold"
    project: ProjectId
    session: SessionId
    round: RoundNumber
    attempt: AttemptNumber
    clients: tuple[ClientId, ...]


class FinishItem(Message):
    """Make the round's model from what UPDATES holds up to the cut-off.

    `state` is what the rule remembered after the last completed round.
    """

    kind: Literal["finish"] = "finish"
    project: ProjectId
    session: SessionId
    settings: SessionSettings
    opened: RoundOpened
    closing: RoundClosing
    state: BlobRef | None = None

    @property
    def name(self) -> str:
        """Name the item and its result: the same for everyone who asks for it or does it."""
        place = f"{self.project}.{self.session}.{self.opened.round}"
        return f"{place}.{self.opened.attempt}.{self.closing.step}"


class RecountItem(Message):
    """Count this stored update again: its delivery went to the dead letters, an operator wants it back."""

    kind: Literal["recount"] = "recount"
    project: ProjectId
    session: SessionId
    subject: str
    sequence: Annotated[int, Field(ge=1)]


WorkItem = Annotated[FoldItem | FinishItem | RecountItem, Field(discriminator="kind")]


class PartialRecord(Message):
    """A partial that lies in the object store: whom it holds, whom it refused, who made it."""

    clients: tuple[ClientId, ...]
    refused: tuple[RefusedUpdate, ...] = ()
    blob: BlobRef
    worker: InstanceName


class FinishResult(Message):
    """What a finish item found. `model` and `included` are unset when too few updates were valid for any.

    `inline` is the model's file (base64) when it rides along in the clients' mail: it lies in the object
    store all the same, but whoever writes the mail need not fetch it.
    They are unset, too, where the session's server functions failed; `failure` then says how.
    """

    kind: Literal["finished"] = "finished"
    round: RoundNumber
    attempt: AttemptNumber
    step: Annotated[int, Field(ge=1)]
    model: ModelRef | None = None
    included: BlobRef | None = None
    counted: tuple[ClientId, ...] = ()
    weight: Annotated[int, Field(ge=0)] = 0
    refused: tuple[RefusedUpdate, ...] = ()
    rule: str
    metrics: Metrics = {}
    workers: tuple[InstanceName, ...] = ()
    timings: FinishTimings = FinishTimings()
    state: BlobRef | None = None
    inline: Annotated[str, Field(max_length=90_000)] | None = None
    failure: Annotated[str, StringConstraints(max_length=FAILURE_CHARS_MAX)] = ""
