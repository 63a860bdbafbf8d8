"""Reads documents from Redis and makes up the difference from the log.

A document is taken only if it ends in the log's very last entry; else the entries after it are applied,
and if they do not fit (Redis was restored from another life) everything is made anew. So a read is right
with Redis flushed, stale or away, and the same from every instance.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar
from weakref import WeakValueDictionary

from fedbus_core.rounds.log import LogBroken
from fedbus_runtime.errors import RecordsAway
from fedbus_runtime.ports import Documents, StoredMessage, Streams
from fedbus_schemas import subjects
from fedbus_schemas.codec import Unreadable, digest, read
from fedbus_schemas.ids import ProjectId, SessionId, Sha256
from fedbus_schemas.streams import EVENTS
from fedbus_schemas.wire import Message
from structlog.stdlib import get_logger

from fedbus_api.projection import RoundDocument, SessionDocument, apply

ENTRIES_AT_ONCE = 200
"""Entries read at once; one with a full cohort has about 140 KB."""
SESSIONS_MAX = 1_000
"""Sessions of a project that lists look at, those in which something happened last."""

SESSION = "session"
ROUND = "round"
MODEL = "model"
"""The kinds of documents in Redis."""

_log = get_logger()

M = TypeVar("M", bound=Message)


class ModelPlace(Message):
    """Where a model was made: a pointer that is followed, never believed."""

    session: SessionId
    round: int


@dataclass(slots=True)
class _Catching:
    """A document on its way to the head, and the rounds that changed on the way."""

    document: SessionDocument | None
    rounds: dict[int, RoundDocument]


class Reader:
    """The projection's documents."""

    def __init__(self, streams: Streams, documents: Documents) -> None:
        self._streams = streams
        self._documents = documents
        self._locks: WeakValueDictionary[tuple[ProjectId, SessionId], asyncio.Lock] = (
            WeakValueDictionary()
        )

    async def session(self, project: ProjectId, session: SessionId) -> SessionDocument | None:
        """Give a session as of the log's head; None = there is no such session."""
        head = await self._streams.last(EVENTS, subjects.event(project, session))
        return None if head is None else await self._fresh(project, session, head)

    async def sessions(self, project: ProjectId) -> list[SessionDocument]:
        """Give the project's sessions, those that began last first."""
        found = await self._streams.subjects(EVENTS, subjects.event(project, "*"))
        heads = await self._streams.latest(EVENTS, sorted(found)) if found else []
        newest = heads[-SESSIONS_MAX:]
        documents = [
            await self._fresh(project, subjects.token(head.subject, 3), head) for head in newest
        ]
        return sorted(documents, key=lambda one: (one.created, one.session), reverse=True)

    async def rounds(
        self, document: SessionDocument, numbers: Sequence[int]
    ) -> list[RoundDocument]:
        """Give rounds of a session in the order asked for; those that were never opened are left out."""
        found: dict[int, RoundDocument] = {}
        for number in numbers:
            kept = await self._round(document, number)
            if kept is None and self._exists(document, number):
                found |= await self._again(document, numbers)
                break
            if kept is not None:
                found[number] = kept
        return [found[number] for number in numbers if number in found]

    async def place(self, project: ProjectId, model: Sha256) -> ModelPlace | None:
        """Find a round that made a model."""
        pointed = await self._get(project, MODEL, model)
        place = _parse(ModelPlace, pointed)
        if place is not None and await self._made(project, place, model):
            return place
        for document in await self.sessions(project):
            everything = await self._apply_all(project, document.session, None)
            for one in everything.rounds.values():
                made = one.last.model
                if made is not None and made.digest == model:
                    await self._keep(project, everything)
                    return ModelPlace(session=document.session, round=one.number)
        return None

    async def _made(self, project: ProjectId, place: ModelPlace, model: Sha256) -> bool:
        document = await self.session(project, place.session)
        found = await self.rounds(document, [place.round]) if document else []
        return any(one.last.model is not None and one.last.model.digest == model for one in found)

    def _exists(self, document: SessionDocument, number: int) -> bool:
        return document.latest is not None and 1 <= number <= document.latest.number

    async def _round(self, document: SessionDocument, number: int) -> RoundDocument | None:
        if not self._exists(document, number):
            return None
        if document.latest is not None and document.latest.number == number:
            return document.latest
        name = f"{document.session}.{number}"
        kept = _parse(RoundDocument, await self._get(document.project, ROUND, name))
        return kept if kept is not None and kept.genesis == document.genesis else None

    async def _again(
        self, document: SessionDocument, numbers: Sequence[int]
    ) -> dict[int, RoundDocument]:
        """Make a session's rounds anew, because Redis has lost one of them or is away."""
        everything = await self._apply_all(document.project, document.session, None)
        await self._keep(document.project, everything)
        return {
            number: everything.rounds[number] for number in numbers if number in everything.rounds
        }

    async def _fresh(
        self, project: ProjectId, session: SessionId, head: StoredMessage
    ) -> SessionDocument:
        kept = await self._kept(project, session, head)
        if kept is not None and kept.sequence == head.sequence:
            return kept
        lock = self._locks.setdefault((project, session), asyncio.Lock())
        async with lock:
            kept = await self._kept(project, session, head)
            if kept is not None and kept.sequence == head.sequence:
                return kept
            try:
                caught = await self._apply_all(project, session, kept)
            except LogBroken:
                if kept is None:
                    raise
                _log.warning("document.foreign", project=project, session=session)
                caught = await self._apply_all(project, session, None)
            await self._keep(project, caught)
        assert caught.document is not None, "the log has a head"
        return caught.document

    async def _kept(
        self, project: ProjectId, session: SessionId, head: StoredMessage
    ) -> SessionDocument | None:
        """Give the document in Redis, unless it can be seen not to be of this log."""
        kept = _parse(SessionDocument, await self._get(project, SESSION, session))
        if kept is None or kept.sequence > head.sequence:
            return None
        if kept.sequence == head.sequence and kept.head != digest(head.data):
            return None
        return kept

    async def _apply_all(
        self, project: ProjectId, session: SessionId, document: SessionDocument | None
    ) -> _Catching:
        caught = _Catching(document, {})
        while True:
            after = caught.document.sequence if caught.document else 0
            subject = subjects.event(project, session)
            entries = await self._streams.read(EVENTS, subject, after=after, limit=ENTRIES_AT_ONCE)
            for entry in entries:
                caught.document, changed = apply(
                    caught.document, entry.data, entry.sequence, entry.time
                )
                caught.rounds |= {one.number: one for one in changed}
            if len(entries) < ENTRIES_AT_ONCE:
                return caught

    async def _keep(self, project: ProjectId, caught: _Catching) -> None:
        """Put the rounds first and the session last: a session's document vouches for its rounds."""
        document = caught.document
        if document is None:
            return
        try:
            for one in caught.rounds.values():
                name = f"{document.session}.{one.number}"
                await self._documents.put(project, ROUND, name, document.number, one.to_bytes())
                if one.last.model is not None:
                    place = ModelPlace(session=document.session, round=one.number)
                    await self._documents.put(
                        project, MODEL, one.last.model.digest, document.number, place.to_bytes()
                    )
            await self._documents.put(
                project, SESSION, document.session, document.number, document.to_bytes()
            )
        except RecordsAway as away:
            _log.warning("documents.away", error=str(away))

    async def _get(self, project: ProjectId, kind: str, name: str) -> bytes | None:
        try:
            kept = await self._documents.get(project, kind, name)
        except RecordsAway as away:
            _log.warning("documents.away", error=str(away))
            return None
        return kept[1] if kept is not None else None


def _parse(kind: type[M], data: bytes | None) -> M | None:
    """Read a document; one that an older version wrote otherwise is made anew."""
    if data is None:
        return None
    try:
        return read(kind, data)
    except Unreadable:
        return None
