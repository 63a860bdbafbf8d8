"""Every event of a session's log. Names are in the past tense; each type is versioned.

Inside a version only optional fields are added. A reader that meets an unknown type stops loudly
(`codec.UnknownEvent`): skipping a decision would give another state.
"""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import AwareDatetime, Field, StringConstraints

from fedbus_schemas.ids import (
    AttemptNumber,
    ClientId,
    InstanceName,
    Metrics,
    ProjectId,
    PublicKey,
    RoundNumber,
    SessionId,
    Sha256,
)
from fedbus_schemas.models import BlobRef, ModelRef, PackageRef
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.sessions import COHORT_SIZE_MAX, RoundTimeout, SessionSettings
from fedbus_schemas.wire import Message

Count = Annotated[int, Field(ge=0)]


class Event(Message):
    """The data of one event. `TYPE` is what stands in the CloudEvents `type`."""

    TYPE: ClassVar[str]


class Participant(Message):
    """A member of a cohort: its pseudonym, and the key that signs its manifests in this round."""

    client: ClientId
    key: PublicKey


class RefusedUpdate(Message):
    """An update that was stored in time but does not count, and why. Recorded, never derived again."""

    client: ClientId
    code: RefusalCode
    detail: Annotated[str, StringConstraints(max_length=512)] = ""


class FinishTimings(Message):
    """Seconds the finishing combiner spent, by step."""

    read_s: float = 0.0
    fold_s: float = 0.0
    store_s: float = 0.0
    total_s: float = 0.0


class SessionStarted(Event):
    """A session exists. Its settings never change afterwards, but for the number of rounds.

    `package` pins the compute package of all its rounds; none = the clients bring their own functions.
    """

    TYPE: ClassVar[str] = "session.started.v1"
    project: ProjectId
    session: SessionId
    settings: SessionSettings
    model: ModelRef
    package: PackageRef | None = None


class RoundOpened(Event):
    """A round (or a new attempt of it) has begun: who is asked, from which model, until when."""

    TYPE: ClassVar[str] = "round.opened.v1"
    round: RoundNumber
    attempt: AttemptNumber
    model: ModelRef
    cohort: Annotated[tuple[Participant, ...], Field(min_length=1, max_length=COHORT_SIZE_MAX)]
    target: Annotated[int, Field(ge=1)]
    minimum: Annotated[int, Field(ge=1)]
    deadline: AwareDatetime
    trace_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]


class DeadlineMoved(Event):
    """The deadline fired late because the bus was down; the clients get the grace period."""

    TYPE: ClassVar[str] = "round.deadline_moved.v1"
    round: RoundNumber
    attempt: AttemptNumber
    deadline: AwareDatetime


class ClosingReason(StrEnum):
    """Why a round stops collecting."""

    TARGET = "target"
    DEADLINE = "deadline"


class RoundClosing(Event):
    """The cut-off is fixed: candidates are the updates stored up to this sequence of UPDATES.

    `step` counts the closings of one attempt: a round that turned out to hold too few valid updates
    collects on and closes again.
    """

    TYPE: ClassVar[str] = "round.closing.v1"
    round: RoundNumber
    attempt: AttemptNumber
    step: Annotated[int, Field(ge=1)]
    cutoff: Count
    reason: ClosingReason


class RoundReopened(Event):
    """Too few of the candidates were valid; the round collects on until its deadline."""

    TYPE: ClassVar[str] = "round.reopened.v1"
    round: RoundNumber
    attempt: AttemptNumber
    step: Annotated[int, Field(ge=1)]
    valid: Count
    refused: Annotated[tuple[RefusedUpdate, ...], Field(max_length=COHORT_SIZE_MAX)] = ()


class RoundCompleted(Event):
    """A new model, together with the exact set it was made from.

    `included` names the included-set blob (`sets.IncludedSet`); `counted` repeats its clients, sorted.
    `rule` is the aggregation rule with its version: replay keeps the old one when a bit of it changes.
    `state` is what the rule remembers from round to round, as a server optimizer's moments; unset for a
    rule without memory.
    """

    TYPE: ClassVar[str] = "round.completed.v1"
    round: RoundNumber
    attempt: AttemptNumber
    step: Annotated[int, Field(ge=1)]
    model: ModelRef
    included: BlobRef
    counted: Annotated[tuple[ClientId, ...], Field(min_length=1, max_length=COHORT_SIZE_MAX)]
    weight: Annotated[int, Field(ge=1)]
    refused: Annotated[tuple[RefusedUpdate, ...], Field(max_length=COHORT_SIZE_MAX)] = ()
    rule: str
    metrics: Metrics = {}
    workers: Annotated[tuple[InstanceName, ...], Field(max_length=64)] = ()
    timings: FinishTimings = FinishTimings()
    state: BlobRef | None = None


FAILURE_CHARS_MAX = 1_000
"""What is kept of how server functions failed."""


class FailureReason(StrEnum):
    """Why an attempt or a session failed."""

    BELOW_MINIMUM = "below_minimum"
    NO_CLIENTS = "no_clients"
    SERVER_FUNCTIONS = "server_functions"


class RoundFailed(Event):
    """An attempt ended without a model: below the minimum, or because the server functions failed (`detail`).

    What comes next stands in the same entry.
    """

    TYPE: ClassVar[str] = "round.failed.v1"
    round: RoundNumber
    attempt: AttemptNumber
    reason: FailureReason
    valid: Count
    minimum: Count
    refused: Annotated[tuple[RefusedUpdate, ...], Field(max_length=COHORT_SIZE_MAX)] = ()
    detail: Annotated[str, StringConstraints(max_length=FAILURE_CHARS_MAX)] = ""


class SessionWaiting(Event):
    """The next attempt is not opened yet: too few clients are online, or the attempts are used up.

    With `rest` it waits for `look_again` in any case; otherwise it opens as soon as enough are online.
    """

    TYPE: ClassVar[str] = "session.waiting.v1"
    round: RoundNumber
    attempt: AttemptNumber
    online: Count
    needed: Annotated[int, Field(ge=1)]
    look_again: AwareDatetime
    rest: bool = False


class SessionPaused(Event):
    """An operator asked for a pause: the open round is finished, no further one is opened."""

    TYPE: ClassVar[str] = "session.paused.v1"


class SessionResumed(Event):
    """An operator ended the pause."""

    TYPE: ClassVar[str] = "session.resumed.v1"


class SessionExtended(Event):
    """The session has more rounds to do; `rounds` is the new total."""

    TYPE: ClassVar[str] = "session.extended.v1"
    rounds: RoundNumber
    round_timeout_s: RoundTimeout | None = None


class SessionCompleted(Event):
    """All rounds are done. An extension may still follow."""

    TYPE: ClassVar[str] = "session.completed.v1"
    rounds: RoundNumber
    model: Sha256


class SessionStopped(Event):
    """An operator ended the session."""

    TYPE: ClassVar[str] = "session.stopped.v1"
    reason: str


class SessionFailed(Event):
    """The session cannot go on; the reason is the one a person needs to mend it."""

    TYPE: ClassVar[str] = "session.failed.v1"
    round: RoundNumber
    reason: FailureReason
    detail: str = ""


class RoundPruned(Event):
    """The stored updates of an attempt that is over are deleted, as the session's settings ask."""

    TYPE: ClassVar[str] = "round.pruned.v1"
    round: RoundNumber
    attempt: AttemptNumber


class SessionArchived(Event):
    """The session is closed for good, and all its stored updates are deleted. The log stays."""

    TYPE: ClassVar[str] = "session.archived.v1"


AnyEvent = (
    SessionStarted
    | RoundOpened
    | DeadlineMoved
    | RoundClosing
    | RoundReopened
    | RoundCompleted
    | RoundFailed
    | SessionWaiting
    | SessionPaused
    | SessionResumed
    | SessionExtended
    | SessionCompleted
    | SessionStopped
    | SessionFailed
    | RoundPruned
    | SessionArchived
)

EVENT_TYPES: dict[str, type[AnyEvent]] = {
    event.TYPE: event
    for event in (
        SessionStarted,
        RoundOpened,
        DeadlineMoved,
        RoundClosing,
        RoundReopened,
        RoundCompleted,
        RoundFailed,
        SessionWaiting,
        SessionPaused,
        SessionResumed,
        SessionExtended,
        SessionCompleted,
        SessionStopped,
        SessionFailed,
        RoundPruned,
        SessionArchived,
    )
}
