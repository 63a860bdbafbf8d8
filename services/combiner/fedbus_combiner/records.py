"""Takes in what clients log: each batch is stored once, however often it comes, within each client's limits.

A batch is split by kind, and each part goes to the client's subject of that kind with the expected last
sequence. The last message there says up to which batch it holds, so a resend finds its own.
"""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Annotated

from fedbus_runtime.budgets import Budgets
from fedbus_runtime.errors import Conflict
from fedbus_runtime.ports import Clock, StoredMessage, Streams
from fedbus_runtime.settings import Section
from fedbus_schemas import subjects
from fedbus_schemas.asks import Answer, Beat, Noted
from fedbus_schemas.codec import Unreadable, read
from fedbus_schemas.ids import ClientId, ProjectId
from fedbus_schemas.records import (
    ATTRIBUTES_MAX,
    BATCH_BYTES_MAX,
    AnyRecord,
    Attribute,
    AttributesRecord,
    ClientAttributes,
    RecordBatch,
    StoredRecords,
    has_batch,
    with_batch,
)
from fedbus_schemas.refusals import Refusal, RefusalCode
from fedbus_schemas.registry import ClientRecord
from fedbus_schemas.streams import RECORDS, REGISTRY, Stream
from fedbus_schemas.wire import Message
from pydantic import Field
from structlog.stdlib import get_logger

TRIES_MAX = 5
"""How often a part is tried when another combiner stores a batch of the same client meanwhile."""
REPORT_EVERY = timedelta(seconds=10)
REPORTS_BURST = 5.0
"""Reports of a backlog that a client may send at once; what is over one in `REPORT_EVERY` is left out."""

_log = get_logger()


class RecordsSection(Section):
    """How much each client may log, in each combiner."""

    per_second: Annotated[float, Field(gt=0)] = Field(
        default=200.0, description="Records a second of one client, in the long run."
    )
    burst: Annotated[int, Field(ge=256)] = Field(
        default=20_000, description="Records of one client at once, after a silence."
    )
    bytes_per_second: Annotated[float, Field(gt=0)] = Field(
        default=128 * 1024.0,
        description="Bytes of records a second of one client, in the long run.",
    )
    bytes_burst: Annotated[int, Field(ge=BATCH_BYTES_MAX)] = Field(
        default=8 * 1024**2, description="Bytes of records of one client at once, after a silence."
    )


class Records:
    """Answers `records`, and keeps what beats say of a backlog."""

    def __init__(self, streams: Streams, clock: Clock, limits: RecordsSection) -> None:
        self._streams = streams
        self._limits = limits
        self._counts = Budgets(clock, burst=limits.burst, per_second=limits.per_second)
        self._bytes = Budgets(clock, burst=limits.bytes_burst, per_second=limits.bytes_per_second)
        self._reports = Budgets(
            clock, burst=REPORTS_BURST, per_second=timedelta(seconds=1) / REPORT_EVERY
        )

    async def take(self, project: ProjectId, sender: ClientRecord, data: bytes) -> Answer:
        """Store a batch. Refuses it whole or stores it whole. Raises `Away` when a server is."""
        if len(data) > BATCH_BYTES_MAX:
            detail = f"a batch of {len(data)} bytes, at most {BATCH_BYTES_MAX}"
            return Answer.refused(RefusalCode.TOO_LARGE, detail)
        wait_s = self._bytes.take(sender.client, len(data))
        if wait_s:
            limit = f"records.bytes_per_second = {self._limits.bytes_per_second:g}"
            return _later(wait_s, limit)
        try:
            batch = read(RecordBatch, data)
        except Unreadable as error:
            return Answer.refused(RefusalCode.UNREADABLE, str(error))
        wait_s = self._counts.take(sender.client, len(batch.records))
        if wait_s:
            self._bytes.give_back(sender.client, len(data))
            return _later(wait_s, f"records.per_second = {self._limits.per_second:g}")
        return await self._store(project, sender.client, batch)

    async def beat(self, project: ProjectId, sender: ClientRecord, beat: Beat) -> None:
        """Keep what waits at a client."""
        if beat.backlog is not None and not self._reports.take(sender.client):
            subject = subjects.backlog(project, sender.client)
            await self._streams.append(subject, beat.backlog.to_bytes())

    async def _store(self, project: ProjectId, client: ClientId, batch: RecordBatch) -> Answer:
        kinds: dict[str, list[AnyRecord]] = {}
        for record in batch.records:
            kinds.setdefault(record.kind, []).append(record)
        changes = [one for one in batch.records if isinstance(one, AttributesRecord)]
        try:
            if changes:
                await self._set(project, client, batch, changes)
            for kind, records in kinds.items():
                await self._keep(subjects.logged(project, client, kind), batch, records)
        except Conflict as error:
            return Answer.refused(RefusalCode.RETRY_LATER, str(error))
        except TooMany:
            detail = f"a client has at most {ATTRIBUTES_MAX} attributes; take one away with null"
            return Answer.refused(RefusalCode.TOO_LARGE, detail)
        return Answer(noted=Noted())

    async def _keep(self, subject: str, batch: RecordBatch, records: Sequence[AnyRecord]) -> None:
        """Store one kind of a batch unless it is there. Raises `Conflict` when others are always first."""

        def following(last: StoredMessage | None) -> Message | None:
            marks = () if last is None else _stored(last).marks
            if has_batch(marks, batch.stream, batch.batch):
                return None
            marks = with_batch(marks, batch.stream, batch.batch)
            return StoredRecords(marks=marks, records=tuple(records))

        await self._follow(RECORDS, subject, following)

    async def _set(
        self,
        project: ProjectId,
        client: ClientId,
        batch: RecordBatch,
        changes: Sequence[AttributesRecord],
    ) -> None:
        """Bring a client's attributes up to date. Raises `TooMany`, and `Conflict` as `_keep` does."""

        def following(last: StoredMessage | None) -> Message | None:
            before = ClientAttributes(client=client) if last is None else _current(last, client)
            if has_batch(before.marks, batch.stream, batch.batch):
                return None
            return merge(before, batch, changes)

        await self._follow(REGISTRY, subjects.attributes_record(project, client), following)

    async def _follow(
        self,
        stream: Stream,
        subject: str,
        following: Callable[[StoredMessage | None], Message | None],
    ) -> None:
        """Store what follows a subject's last message; None = it stands there already."""
        for attempt in range(TRIES_MAX):
            last = await self._streams.last(stream, subject)
            content = following(last)
            if content is None:
                return
            try:
                expected = 0 if last is None else last.sequence
                await self._streams.append(subject, content.to_bytes(), expected=expected)
            except Conflict:
                if attempt == TRIES_MAX - 1:
                    raise
            else:
                return


class TooMany(Exception):
    """A client would have more than `ATTRIBUTES_MAX` attributes."""


def merge(
    before: ClientAttributes, batch: RecordBatch, changes: Sequence[AttributesRecord]
) -> ClientAttributes:
    """Give a client's attributes after these records. Raises `TooMany`.

    Of two records of one stream the one logged later holds, whichever comes first.
    """
    attributes = dict(before.attributes)
    for record in changes:
        for key, value in record.attributes.items():
            known = attributes.get(key)
            if known is not None and known.stream == batch.stream and known.number > record.number:
                continue
            attributes.pop(key, None)
            attributes[key] = Attribute(
                value=value, time=record.time, stream=batch.stream, number=record.number
            )
    gone = [key for key, one in attributes.items() if one.value is None]
    for key in gone[: max(0, len(attributes) - ATTRIBUTES_MAX)]:
        del attributes[key]
    if len(attributes) > ATTRIBUTES_MAX:
        raise TooMany
    marks = with_batch(before.marks, batch.stream, batch.batch)
    return ClientAttributes(client=before.client, marks=marks, attributes=attributes)


def _later(wait_s: float, limit: str) -> Answer:
    detail = f"more records than this client may log: {limit}; send the same again"
    return Answer(
        refusal=Refusal(code=RefusalCode.RETRY_LATER, detail=detail, retry_after_s=wait_s)
    )


def _stored(message: StoredMessage) -> StoredRecords:
    """Read what we stored ourselves; what another version wrote otherwise counts as nothing."""
    try:
        return read(StoredRecords, message.data)
    except Unreadable as error:
        _log.error("records.unreadable", subject=message.subject, why=str(error))
        return StoredRecords.model_construct(marks=(), records=())


def _current(message: StoredMessage, client: ClientId) -> ClientAttributes:
    try:
        return read(ClientAttributes, message.data)
    except Unreadable as error:
        _log.error("attributes.unreadable", subject=message.subject, why=str(error))
        return ClientAttributes(client=client)
