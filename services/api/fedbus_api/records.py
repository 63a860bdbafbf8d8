"""Reads what clients logged: one tail a kind, each with so much of the newest as fits its bound."""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Generic, TypeVar

from fedbus_runtime.attributes import AttributeTable, Choice
from fedbus_runtime.ports import Clock, StoredMessage, Streams
from fedbus_runtime.registry import ClientRegistry
from fedbus_schemas import subjects
from fedbus_schemas.codec import Unreadable, read
from fedbus_schemas.ids import ClientId, ProjectId, Scalar
from fedbus_schemas.record_views import (
    AttributeChangeView,
    AttributeView,
    BacklogView,
    MetricView,
    RecordView,
    ResultView,
    StatusEventView,
    TelemetryView,
)
from fedbus_schemas.records import (
    AnyRecord,
    AttributesRecord,
    Backlog,
    EventRecord,
    MetricsRecord,
    RecordKind,
    ResultRecord,
    StoredRecords,
    TelemetryRecord,
)
from fedbus_schemas.selection import ClientQuery
from fedbus_schemas.streams import Stream

from fedbus_api.tail import Tail

BATCHES_MAX = 20_000
"""Batches of one kind in a project that are looked at, the newest."""
BYTES_MAX = 16 * 1024**2
"""Bytes of them, as they are stored; in memory they take several times as much."""
BACKLOGS_MAX = 20_000

V = TypeVar("V", bound=RecordView)
R = TypeVar("R")


class Logged(Generic[V]):
    """The records of one kind, as views."""

    def __init__(
        self,
        streams: Streams,
        clock: Clock,
        kept: Stream,
        kind: RecordKind,
        show: Callable[[StoredMessage, AnyRecord, int], Iterator[V]],
    ) -> None:
        self._show = show
        self._tail = Tail(
            streams,
            clock,
            kept,
            subject=lambda project: subjects.logged(project, kind=kind),
            parse=self._parse,
            kept_max=BATCHES_MAX,
            bytes_max=BYTES_MAX,
        )

    async def rows(self, project: ProjectId) -> list[V]:
        """Give the records that are looked at, the oldest first."""
        return [row for batch in await self._tail.rows(project) for row in batch]

    def _parse(self, message: StoredMessage) -> tuple[V, ...] | None:
        try:
            stored = read(StoredRecords, message.data)
        except Unreadable:
            return None
        return tuple(
            view
            for index, record in enumerate(stored.records)
            for view in self._show(message, record, index)
        )


class Records:
    """What clients logged, what they are like, and what still waits at them."""

    def __init__(
        self,
        streams: Streams,
        clock: Clock,
        registry: ClientRegistry,
        kept: Stream,
        telemetry: Stream,
    ) -> None:
        """`kept` is RECORDS and `telemetry` TELEMETRY, with how long they are."""
        self._registry = registry
        self._table = AttributeTable(streams)
        self._backlogs = Tail(
            streams,
            clock,
            telemetry,
            subject=subjects.backlog,
            parse=_backlog,
            kept_max=BACKLOGS_MAX,
        )
        self.metrics = Logged(streams, clock, kept, RecordKind.METRICS, _metrics)
        self.changes = Logged(streams, clock, kept, RecordKind.ATTRIBUTES, _changes)
        self.telemetry = Logged(streams, clock, kept, RecordKind.TELEMETRY, _telemetry)
        self.results = Logged(streams, clock, kept, RecordKind.RESULT, _result)
        self.events = Logged(streams, clock, kept, RecordKind.EVENT, _event)

    async def attributes(self, project: ProjectId) -> list[AttributeView]:
        """Give every client's attributes now."""
        known = await self._table.everyone(project)
        names = {one.client: one.name for one in await self._registry.everyone(project)}
        return [
            AttributeView(
                client=client,
                name=names[client],
                key=key,
                value=attribute.value,
                logged=attribute.time,
            )
            for client, record in known.items()
            for key, attribute in record.attributes.items()
            if attribute.value is not None and client in names
        ]

    async def attributes_at(
        self, project: ProjectId, moment: datetime
    ) -> dict[ClientId, dict[str, Scalar]]:
        """Give every client's attributes as they stood at a moment, as far back as changes are kept.

        An attribute without a kept change is told as it is now.
        """
        found: dict[ClientId, dict[str, Scalar]] = {}
        changed: set[tuple[ClientId, str]] = set()
        for change in await self.changes.rows(project):
            changed.add((change.client, change.key))
            if change.stored <= moment:
                _put(found.setdefault(change.client, {}), change.key, change.value)
        for client, record in (await self._table.everyone(project)).items():
            for key, attribute in record.attributes.items():
                if (client, key) not in changed:
                    _put(found.setdefault(client, {}), key, attribute.value)
        return found

    async def choose(self, project: ProjectId, query: ClientQuery) -> Choice:
        """Say which clients a query means."""
        return await self._table.choose(project, query, await self._registry.everyone(project))

    async def backlogs(self, project: ProjectId) -> list[BacklogView]:
        """Give what waits at each client, as it said last."""
        return await self._backlogs.rows(project)


def _put(attributes: dict[str, Scalar], key: str, value: Scalar | None) -> None:
    if value is None:
        attributes.pop(key, None)
    else:
        attributes[key] = value


def _named(message: StoredMessage, record: AnyRecord, place: str) -> dict[str, object]:
    return {
        "id": f"{message.sequence:012}.{place}",
        "client": subjects.token(message.subject, 3),
        "logged": record.time,
        "stored": message.time,
    }


def _tied(record: MetricsRecord | ResultRecord | EventRecord) -> dict[str, object]:
    return {"session": record.session, "round": record.round, "model": record.model}


def _metrics(message: StoredMessage, record: AnyRecord, index: int) -> Iterator[MetricView]:
    if not isinstance(record, MetricsRecord):
        return
    for number, (key, value) in enumerate(record.metrics.items()):
        fields = _named(message, record, f"{index:03}.{number:02}") | _tied(record)
        yield MetricView.model_validate(fields | {"key": key, "value": value, "step": record.step})


def _changes(
    message: StoredMessage, record: AnyRecord, index: int
) -> Iterator[AttributeChangeView]:
    if not isinstance(record, AttributesRecord):
        return
    for number, (key, value) in enumerate(record.attributes.items()):
        fields = _named(message, record, f"{index:03}.{number:02}")
        yield AttributeChangeView.model_validate(fields | {"key": key, "value": value})


def _telemetry(message: StoredMessage, record: AnyRecord, index: int) -> Iterator[TelemetryView]:
    if isinstance(record, TelemetryRecord):
        fields = _named(message, record, f"{index:03}")
        yield TelemetryView.model_validate(fields | {"key": record.key, "payload": record.payload})


def _result(message: StoredMessage, record: AnyRecord, index: int) -> Iterator[ResultView]:
    if isinstance(record, ResultRecord):
        fields = _named(message, record, f"{index:03}") | _tied(record)
        yield ResultView.model_validate(fields | {"key": record.key, "payload": record.payload})


def _event(message: StoredMessage, record: AnyRecord, index: int) -> Iterator[StatusEventView]:
    if isinstance(record, EventRecord):
        fields = _named(message, record, f"{index:03}") | _tied(record)
        yield StatusEventView.model_validate(fields | {"level": record.level, "text": record.text})


def _backlog(message: StoredMessage) -> BacklogView | None:
    try:
        backlog = read(Backlog, message.data)
    except Unreadable:
        return None
    client = subjects.token(message.subject, 3)
    return BacklogView(client=client, reported=message.time, **dict(backlog))
