"""What a client logs beside its updates: metrics, attributes, telemetry, inference results, events.

The client numbers its records and sends them in batches, each with a number of its own in the client's
stream of batches. A batch that comes again is stored once: the last message of each of the client's
subjects says up to which batch it holds (`marks`).
"""

from collections.abc import Iterable
from enum import StrEnum
from math import isfinite
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, AwareDatetime, Field, JsonValue, StringConstraints

from fedbus_schemas.ids import (
    AttributeKey,
    ClientId,
    Metrics,
    RoundNumber,
    Scalar,
    SessionId,
    Sha256,
)
from fedbus_schemas.wire import Message

BATCH_RECORDS_MAX = 256
"""Records of one batch."""
BATCH_BYTES_MAX = 192 * 1024
"""Bytes of one batch as it is sent; a client's account on the bus allows 256 KiB a message."""
PAYLOAD_BYTES_MAX = 64 * 1024
"""Bytes of one telemetry or result payload as compact JSON."""
PAYLOAD_DEPTH_MAX = 32
"""How deep lists and objects in a payload nest."""
TEXT_MAX = 4_096
"""Characters of an event's text."""
ATTRIBUTES_MAX = 64
"""Attributes of one client."""
MARKS_MAX = 8
"""Streams of batches of one client that are remembered, those heard last."""


def _sound(value: JsonValue) -> JsonValue:
    """Refuse what JSON has no word for, what is nothing, and what nests too deep."""
    if value is None:
        raise ValueError("a payload is not null")
    level: list[JsonValue] = [value]
    for _ in range(PAYLOAD_DEPTH_MAX):
        if any(isinstance(one, float) and not isfinite(one) for one in level):
            raise ValueError("a payload holds no NaN and no infinity")
        level = [inner for one in level for inner in _inner(one)]
        if not level:
            return value
    raise ValueError(f"a payload nests at most {PAYLOAD_DEPTH_MAX} levels deep")


def _inner(value: JsonValue) -> Iterable[JsonValue]:
    if isinstance(value, list):
        return value
    return value.values() if isinstance(value, dict) else ()


StreamId = Annotated[str, StringConstraints(pattern=r"^[a-z2-7]{16}$")]
"""One outbox of a client, at random: a client that lost its outbox begins a new one."""

Key = Annotated[str, StringConstraints(min_length=1, max_length=128)]
"""What a payload is: the client's own name for it."""

Payload = Annotated[JsonValue, AfterValidator(_sound)]
"""Any JSON but null."""


class RecordKind(StrEnum):
    """The kinds of records, each a subject of its own."""

    METRICS = "metrics"
    ATTRIBUTES = "attributes"
    TELEMETRY = "telemetry"
    RESULT = "result"
    EVENT = "event"


class Level(StrEnum):
    """How much an event matters. `audit` is for whoever must be able to show it later."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    AUDIT = "audit"


class Record(Message):
    """A record. `number` is the client's own; `time` is its clock's, for people only."""

    number: Annotated[int, Field(ge=1)]
    time: AwareDatetime


class TaskRecord(Record):
    """A record of the task that ran when it was logged, if one did. `model` is the one it began with."""

    session: SessionId | None = None
    round: RoundNumber | None = None
    model: Sha256 | None = None


class MetricsRecord(TaskRecord):
    """Numbers measured together at one step."""

    kind: Literal["metrics"] = "metrics"
    metrics: Metrics
    step: Annotated[int, Field(ge=0)]


class AttributesRecord(Record):
    """Attributes that are so from now on; null takes one away."""

    kind: Literal["attributes"] = "attributes"
    attributes: Annotated[
        dict[AttributeKey, Scalar | None], Field(min_length=1, max_length=ATTRIBUTES_MAX)
    ]


class TelemetryRecord(Record):
    """Anything that the client observes."""

    kind: Literal["telemetry"] = "telemetry"
    key: Key
    payload: Payload


class ResultRecord(TaskRecord):
    """What a model answered at the client."""

    kind: Literal["result"] = "result"
    key: Key
    payload: Payload


class EventRecord(TaskRecord):
    """A line for people."""

    kind: Literal["event"] = "event"
    level: Level
    text: Annotated[str, StringConstraints(min_length=1, max_length=TEXT_MAX)]


AnyRecord: TypeAlias = Annotated[
    MetricsRecord | AttributesRecord | TelemetryRecord | ResultRecord | EventRecord,
    Field(discriminator="kind"),
]


class RecordBatch(Message):
    """Records in the order in which the client gives them away. Sent again, it is the same batch."""

    stream: StreamId
    batch: Annotated[int, Field(ge=1)]
    records: Annotated[tuple[AnyRecord, ...], Field(min_length=1, max_length=BATCH_RECORDS_MAX)]


class Mark(Message):
    """Up to which batch of a stream something holds."""

    stream: StreamId
    batch: Annotated[int, Field(ge=1)]


Marks: TypeAlias = Annotated[tuple[Mark, ...], Field(max_length=MARKS_MAX)]


class StoredRecords(Message):
    """The records of one kind and one batch, as RECORDS keeps them."""

    marks: Marks
    records: Annotated[tuple[AnyRecord, ...], Field(min_length=1, max_length=BATCH_RECORDS_MAX)]


class Attribute(Message):
    """An attribute's value, and the record that it comes from. Without a value it was taken away: that is
    kept so that an older value that comes later does not bring it back.
    """

    value: Scalar | None = None
    time: AwareDatetime
    stream: StreamId
    number: Annotated[int, Field(ge=1)]


class ClientAttributes(Message):
    """A client's attributes now, as REGISTRY keeps them."""

    client: ClientId
    marks: Marks = ()
    attributes: Annotated[dict[AttributeKey, Attribute], Field(max_length=ATTRIBUTES_MAX)] = {}


class LinkQuality(StrEnum):
    """What a client thinks of its link to the bus."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    OFFLINE = "offline"


class Backlog(Message):
    """What waits at a client to be sent.

    `dropped`: records that were left out since the outbox began: no room, too old, or refused.
    `oldest_age_s`: how long the oldest one waits.
    """

    total: Annotated[int, Field(ge=0)]
    bytes: Annotated[int, Field(ge=0)]
    dropped: Annotated[int, Field(ge=0)]
    oldest_age_s: Annotated[float, Field(ge=0)] = 0.0
    link: LinkQuality = LinkQuality.HEALTHY
    round_trip_ms: Annotated[float, Field(ge=0)] | None = None


def has_batch(marks: tuple[Mark, ...], stream: StreamId, batch: int) -> bool:
    """Whether what carries these marks holds this batch already."""
    return any(one.stream == stream and batch <= one.batch for one in marks)


def with_batch(marks: tuple[Mark, ...], stream: StreamId, batch: int) -> tuple[Mark, ...]:
    """Give the marks after this batch, the stream heard last at the end."""
    others = [one for one in marks if one.stream != stream]
    return (*others[-(MARKS_MAX - 1) :], Mark(stream=stream, batch=batch))
