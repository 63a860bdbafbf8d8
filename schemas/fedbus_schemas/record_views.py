"""What the api shows of the clients' records. `logged` is the client's clock, `stored` the servers'."""

from typing import Annotated

from pydantic import AwareDatetime, Field, JsonValue

from fedbus_schemas.ids import AttributeKey, ClientId, RoundNumber, Scalar, SessionId, Sha256
from fedbus_schemas.records import Key, Level, LinkQuality
from fedbus_schemas.wire import Message


class RecordView(Message):
    """A record. `id` names it; ids grow in the order in which records were stored."""

    id: str
    client: ClientId
    logged: AwareDatetime
    stored: AwareDatetime


class TaskRecordView(RecordView):
    """A record, with the task that ran when it was logged, if one did."""

    session: SessionId | None = None
    round: RoundNumber | None = None
    model: Sha256 | None = None


class MetricView(TaskRecordView):
    """One number that a client measured."""

    key: str
    value: float
    step: Annotated[int, Field(ge=0)]


class AttributeView(Message):
    """One attribute of a client as it is now."""

    client: ClientId
    name: str
    key: AttributeKey
    value: Scalar
    logged: AwareDatetime


class AttributeChangeView(RecordView):
    """An attribute that a client set; without a value it was taken away."""

    key: AttributeKey
    value: Scalar | None = None


class TelemetryView(RecordView):
    """What a client observed."""

    key: Key
    payload: JsonValue


class ResultView(TaskRecordView):
    """What a model answered at a client."""

    key: Key
    payload: JsonValue


class StatusEventView(TaskRecordView):
    """A line that a client wrote for people."""

    level: Level
    text: str


class BacklogView(Message):
    """What waits at a client to be sent, as it said last."""

    client: ClientId
    total: int
    bytes: int
    dropped: int
    oldest_age_s: float
    link: LinkQuality
    round_trip_ms: float | None = None
    reported: AwareDatetime


class SelectionView(Message):
    """The clients that a query means, by pseudonym, and why each other one is not meant."""

    chosen: tuple[ClientId, ...]
    left_out: dict[ClientId, str]
