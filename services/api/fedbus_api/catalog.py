"""The models: those that were uploaded (REGISTRY) and those that rounds made (the projection)."""

import asyncio
from collections.abc import AsyncIterable

from fedbus_core.aggregation.checks import check_model
from fedbus_core.aggregation.grid import Numbers
from fedbus_core.aggregation.round_sum import model_ref
from fedbus_core.aggregation.tensorfile import TensorFileError, parse_layout
from fedbus_runtime.errors import Conflict
from fedbus_runtime.ports import Blobs, Clock, StoredMessage, Streams
from fedbus_schemas import keys, subjects
from fedbus_schemas.codec import Unreadable, read
from fedbus_schemas.ids import ProjectId, SessionId, Sha256
from fedbus_schemas.models import ModelRef
from fedbus_schemas.registry import ModelRecord
from fedbus_schemas.streams import REGISTRY
from fedbus_schemas.views import LineageView, ModelView

from fedbus_api.bodies import receive
from fedbus_api.documents import RoundDocument, SessionDocument
from fedbus_api.problems import Problem
from fedbus_api.reading import Reader, place_of
from fedbus_api.tail import Tail

UPLOADED_MAX = 10_000
"""Uploaded models that a list looks at, the newest ones."""
VIEWS_MAX = 50_000
"""Views of models that are remembered; then all are made again."""
UPLOADS_AT_ONCE = 2


class Catalog:
    """Takes models in, lists them, and follows them to their ancestors."""

    def __init__(
        self, streams: Streams, blobs: Blobs, reader: Reader, clock: Clock, bytes_max: int
    ) -> None:
        self._streams = streams
        self._blobs = blobs
        self._reader = reader
        self._clock = clock
        self._bytes_max = bytes_max
        self._receiving = asyncio.Semaphore(UPLOADS_AT_ONCE)
        self._uploads = Tail(
            streams,
            clock,
            REGISTRY,
            subject=subjects.model_record,
            parse=_uploaded_view,
            kept_max=UPLOADED_MAX,
        )
        self._views: dict[tuple[SessionId, int], tuple[RoundDocument, ModelView | None]] = {}

    async def upload(
        self, project: ProjectId, body: AsyncIterable[bytes], name: str
    ) -> tuple[ModelView, ModelRef, bool]:
        """Take a model in; give it, and whether it is new. Raises `Problem` when it is not one."""
        async with self._receiving:
            setting = "FEDBUS_API__MODEL_BYTES_MAX"
            content = await receive(body, self._bytes_max, "model", setting)
            ref = await asyncio.to_thread(_inspect, content)
            await self._blobs.put(keys.model(project, ref.digest), [content])
        record = ModelRecord(model=ref, name=name, since=self._clock.now())
        subject = subjects.model_record(project, ref.digest)
        try:
            await self._streams.append(subject, record.to_bytes(), expected=0)
        except Conflict:
            standing = await self._record(project, ref.digest)
            return _uploaded(standing or record), ref, False
        return _uploaded(record), ref, True

    async def ref(self, project: ProjectId, digest: Sha256) -> ModelRef | None:
        """Find what a combiner must know of a model."""
        record = await self._record(project, digest)
        if record is not None:
            return record.model
        made = await self._made(project, digest)
        return made[1].last.model if made is not None else None

    async def model(self, project: ProjectId, digest: Sha256) -> ModelView | None:
        """Find a model."""
        record = await self._record(project, digest)
        if record is not None:
            return _uploaded(record)
        made = await self._made(project, digest)
        return _of_round(*made) if made is not None else None

    async def models(self, project: ProjectId) -> list[ModelView]:
        """Give the models of a project: those that were uploaded, and those that rounds made."""
        found = await self._uploads.rows(project)
        for document, rounds in await self._reader.all_rounds(project):
            found += [view for one in rounds if (view := self._shown(document, one)) is not None]
        return found

    async def newest(self, project: ProjectId) -> Sha256 | None:
        """Give the model that was committed or uploaded last."""
        models = await self.models(project)
        last = max(models, key=lambda one: (one.created, one.round or 0), default=None)
        return last.digest if last is not None else None

    async def lineage(self, project: ProjectId, digest: Sha256, limit: int) -> LineageView:
        """Follow a model to its first ancestor, or `limit` models far."""
        found: list[ModelView] = []
        visited: set[SessionId] = set()
        while len(found) < limit:
            record = await self._record(project, digest)
            made = None if record is not None else await self._made(project, digest)
            if made is None or made[0].session in visited:
                # A session whose result is its own start would lead round in a circle.
                found += [_uploaded(record)] if record is not None else []
                return LineageView(items=tuple(found), complete=True)
            document, last = made
            visited.add(document.session)
            count = min(last.number, limit - len(found))
            numbers = range(last.number, last.number - count, -1)
            rounds = await self._reader.rounds(document, list(numbers))
            found += [view for one in rounds if (view := _of_round(document, one)) is not None]
            digest = document.initial.digest
        return LineageView(items=tuple(found), complete=False)

    async def _record(self, project: ProjectId, digest: Sha256) -> ModelRecord | None:
        message = await self._streams.last(REGISTRY, subjects.model_record(project, digest))
        return _read(message) if message is not None else None

    async def _made(
        self, project: ProjectId, digest: Sha256
    ) -> tuple[SessionDocument, RoundDocument] | None:
        return place_of(await self._reader.all_rounds(project), digest)

    def _shown(self, document: SessionDocument, one: RoundDocument) -> ModelView | None:
        """Show a round's model, remembering the view."""
        kept = self._views.get((document.session, one.number))
        if kept is None or kept[0] is not one:
            if len(self._views) >= VIEWS_MAX:
                self._views.clear()
            kept = self._views[document.session, one.number] = one, _of_round(document, one)
        return kept[1]


def _inspect(content: bytearray) -> ModelRef:
    """Check a model and find its exponents. Runs in a thread."""
    try:
        layout = parse_layout(content, len(content))
    except TensorFileError as error:
        raise Problem(error.code, error.detail) from error
    finding = check_model(layout, content, Numbers())
    if finding is not None:
        raise Problem(finding.code, finding.detail)
    return model_ref(content)


def _read(message: StoredMessage) -> ModelRecord | None:
    try:
        return read(ModelRecord, message.data)
    except Unreadable:
        return None


def _uploaded_view(message: StoredMessage) -> ModelView | None:
    record = _read(message)
    return _uploaded(record) if record is not None else None


def _uploaded(record: ModelRecord) -> ModelView:
    model = record.model
    return ModelView(
        digest=model.digest,
        size=model.size,
        layout=model.layout,
        name=record.name,
        created=record.since,
    )


def _of_round(document: SessionDocument, one: RoundDocument) -> ModelView | None:
    attempt = one.last
    prefix = document.settings.model_prefix
    if attempt.model is None or attempt.ended is None:
        return None
    return ModelView(
        digest=attempt.model.digest,
        size=attempt.model.size,
        layout=attempt.model.layout,
        name=f"{prefix}{one.number}" if prefix else "",
        parent=attempt.base.digest,
        session=document.session,
        round=one.number,
        created=attempt.ended,
    )
