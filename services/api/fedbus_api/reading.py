"""Sessions and rounds as documents, in this process, as of the log's head.

Every read asks the log for its head, and applies what is new: so a read is right at once after a write,
and the same from every instance. A process that starts takes the documents from Redis, and makes from
the log what Redis lacks, has of another life, or cannot give. What is kept is bounded; what was let go
is read again.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from fedbus_core.rounds.log import LogBroken
from fedbus_runtime.errors import RecordsAway
from fedbus_runtime.paging import in_pages
from fedbus_runtime.ports import Documents, StoredMessage, Streams
from fedbus_schemas import subjects
from fedbus_schemas.codec import Unreadable, digest, read
from fedbus_schemas.ids import ProjectId, SessionId, Sha256
from fedbus_schemas.streams import EVENTS
from fedbus_schemas.wire import Message
from structlog.stdlib import get_logger

from fedbus_api.documents import RoundDocument, SessionDocument
from fedbus_api.projection import apply

ENTRIES_AT_ONCE = 200
"""Entries read at once; one with a full cohort has about 140 KB."""
SESSIONS_MAX = 5_000
"""Sessions of a project that lists look at, those in which something happened last."""
ROUNDS_MAX = 20_000
"""Rounds of a project that lists look at and that are kept, those that were used or changed last."""
GETS_AT_ONCE = 16

SESSION = "session"
ROUND = "round"
"""The kinds of documents in Redis."""

_log = get_logger()

M = TypeVar("M", bound=Message)


@dataclass(slots=True)
class _Project:
    """What is known of a project. All entries up to `sequence` are in its documents; `head` is the
    SHA-256 of the one there.
    """

    sequence: int = 0
    head: Sha256 = ""
    documents: dict[SessionId, SessionDocument] = field(default_factory=dict)
    rounds: OrderedDict[tuple[SessionId, int], RoundDocument] = field(default_factory=OrderedDict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def take(self, session: SessionId, caught: "_Caught") -> None:
        """Take what an entry or a document brought."""
        if caught.document is not None:
            self.documents[session] = caught.document
        for one in caught.rounds.values():
            self.rounds[session, one.number] = one
            self.rounds.move_to_end((session, one.number))
        while len(self.rounds) > ROUNDS_MAX:
            self.rounds.popitem(last=False)

    def round(self, document: SessionDocument, number: int) -> RoundDocument | None:
        """Find a round of this very log."""
        found = self.rounds.get((document.session, number))
        return found if found is not None and found.genesis == document.genesis else None


@dataclass(slots=True)
class _Caught:
    """A document on its way to the head, and the rounds that changed on the way."""

    document: SessionDocument | None
    rounds: dict[int, RoundDocument] = field(default_factory=dict)

    def step(self, entry: StoredMessage) -> None:
        """Apply an entry. Raises `LogBroken`."""
        self.document, changed = apply(self.document, entry.data, entry.sequence, entry.time)
        self.rounds |= {one.number: one for one in changed}


class Reader:
    """The projection's documents."""

    def __init__(self, streams: Streams, documents: Documents) -> None:
        self._streams = streams
        self._documents = documents
        self._projects: dict[ProjectId, _Project] = {}

    async def session(self, project: ProjectId, session: SessionId) -> SessionDocument | None:
        """Give a session as of the log's head; None = there is no such session."""
        head = await self._streams.last(EVENTS, subjects.event(project, session))
        if head is None:
            return None
        known = self._projects.setdefault(project, _Project())
        if _is_of(known.documents.get(session), head):
            return known.documents[session]
        async with known.lock:
            return await self._fresh(project, known, head)

    async def sessions(self, project: ProjectId) -> list[SessionDocument]:
        """Give the project's sessions, those that began last first."""
        known = self._projects.setdefault(project, _Project())
        async with known.lock:
            await self._catch_up(project, known)
            documents = list(known.documents.values())
        return sorted(documents, key=lambda one: (one.created, one.session), reverse=True)

    async def rounds(
        self, document: SessionDocument, numbers: Sequence[int]
    ) -> list[RoundDocument]:
        """Give rounds of a session in the order asked for; those that were never opened are left out."""
        known = self._projects.setdefault(document.project, _Project())
        last = document.latest.number if document.latest is not None else 0
        wanted = [number for number in numbers if 1 <= number <= last]
        found = {one.number: one for n in wanted if (one := known.round(document, n)) is not None}
        if document.latest is not None:
            found[last] = document.latest
        missing = [number for number in wanted if number not in found]
        if missing:
            found |= await self._load(known, document, missing)
        return [found[number] for number in wanted if number in found]

    async def all_rounds(
        self, project: ProjectId
    ) -> list[tuple[SessionDocument, tuple[RoundDocument, ...]]]:
        """Give the project's rounds by session, those that began last first; `ROUNDS_MAX` at most."""
        found = []
        left = ROUNDS_MAX
        for document in await self.sessions(project):
            last = document.latest.number if document.latest is not None else 0
            numbers = range(last, max(0, last - left), -1)
            found.append((document, tuple(await self.rounds(document, numbers))))
            left -= len(numbers)
        return found

    async def _load(
        self, known: _Project, document: SessionDocument, numbers: Iterable[int]
    ) -> dict[int, RoundDocument]:
        """Take rounds from Redis, or make all of the session anew when it lacks one of them."""
        slots = asyncio.Semaphore(GETS_AT_ONCE)

        async def get(number: int) -> RoundDocument | None:
            async with slots:
                name = f"{document.session}.{number}"
                kept = _parse(RoundDocument, await self._get(document.project, ROUND, name))
            return kept if kept is not None and kept.genesis == document.genesis else None

        kept = await asyncio.gather(*(get(number) for number in numbers))
        caught = _Caught(None, {one.number: one for one in kept if one is not None})
        if len(caught.rounds) < len(kept):
            caught = await self._apply_all(document.project, document.session, None)
            await self._keep(caught)
            caught.document = None  # it may be newer than what is known of the rest
        known.take(document.session, caught)
        return caught.rounds

    async def _catch_up(self, project: ProjectId, known: _Project) -> None:
        everything = subjects.event(project, "*")
        head = await self._streams.last(EVENTS, everything)
        if head is None:
            known.sequence, known.head = 0, ""
            known.documents.clear()
            return
        if (known.sequence, known.head) == (head.sequence, digest(head.data)):
            return
        if known.sequence and known.sequence < head.sequence:
            try:
                await self._follow(everything, known)
            except LogBroken:
                _log.warning("documents.foreign", project=project)
            else:
                return
        await self._begin(project, known)

    async def _begin(self, project: ProjectId, known: _Project) -> None:
        """Take or make the documents of all sessions."""
        known.documents.clear()
        found = await self._streams.subjects(EVENTS, subjects.event(project, "*"))
        heads = await self._streams.latest(EVENTS, sorted(found)) if found else []
        slots = asyncio.Semaphore(GETS_AT_ONCE)

        async def take(head: StoredMessage) -> None:
            async with slots:
                await self._fresh(project, known, head)

        await asyncio.gather(*(take(head) for head in heads[-SESSIONS_MAX:]))
        if heads:
            known.sequence, known.head = heads[-1].sequence, digest(heads[-1].data)

    async def _follow(self, everything: str, known: _Project) -> None:
        """Apply all entries that are new, read from the last known one on. Raises `LogBroken`."""
        while True:
            before = known.sequence
            entries = await self._streams.read(
                EVENTS, everything, after=before - 1, limit=ENTRIES_AT_ONCE
            )
            if not entries or (entries[0].sequence, digest(entries[0].data)) != (
                before,
                known.head,
            ):
                raise LogBroken(f"entry {before} is not what it was")
            changed: dict[SessionId, _Caught] = {}
            for entry in entries:
                session = subjects.token(entry.subject, 3)
                caught = changed.get(session) or _Caught(known.documents.get(session))
                if caught.document is None or caught.document.sequence < entry.sequence:
                    caught.step(entry)
                    changed[session] = caught
            for session, caught in changed.items():
                known.take(session, caught)
                await self._keep(caught)
            known.sequence, known.head = entries[-1].sequence, digest(entries[-1].data)
            if len(entries) < ENTRIES_AT_ONCE:
                _shed(known)
                return

    async def _fresh(
        self, project: ProjectId, known: _Project, head: StoredMessage
    ) -> SessionDocument:
        """Bring a session's document to the head."""
        session = subjects.token(head.subject, 3)
        mine = known.documents.get(session)
        if _is_of(mine, head):
            assert mine is not None
            return mine
        kept = mine if mine is not None and mine.sequence < head.sequence else None
        kept = kept or _parse(SessionDocument, await self._get(project, SESSION, session))
        if kept is not None and kept.sequence >= head.sequence and not _is_of(kept, head):
            kept = None
        try:
            caught = await self._apply_all(project, session, kept)
        except LogBroken:
            if kept is None:
                raise
            _log.warning("document.foreign", project=project, session=session)
            caught = await self._apply_all(project, session, None)
        assert caught.document is not None, "the log has a head"
        known.take(session, caught)
        if caught.document is not kept:
            await self._keep(caught)
        return caught.document

    async def _apply_all(
        self, project: ProjectId, session: SessionId, document: SessionDocument | None
    ) -> _Caught:
        caught = _Caught(document)
        subject = subjects.event(project, session)
        after = document.sequence if document else 0
        async for entry in in_pages(
            self._streams, EVENTS, subject, at_once=ENTRIES_AT_ONCE, after=after
        ):
            caught.step(entry)
        return caught

    async def _keep(self, caught: _Caught) -> None:
        """Put the rounds first and the session last: a session's document vouches for its rounds."""
        document = caught.document
        if document is None:
            return
        project, number = document.project, document.number
        try:
            for one in caught.rounds.values():
                name = f"{document.session}.{one.number}"
                await self._documents.put(project, ROUND, name, number, one.to_bytes())
            await self._documents.put(
                project, SESSION, document.session, number, document.to_bytes()
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


def _shed(known: _Project) -> None:
    """Let the sessions go in which nothing happened for longest."""
    over = len(known.documents) - SESSIONS_MAX
    if over > 0:
        oldest = sorted(known.documents.values(), key=lambda one: one.sequence)[:over]
        for one in oldest:
            del known.documents[one.session]


def _is_of(document: SessionDocument | None, head: StoredMessage) -> bool:
    """Say whether a document ends in just this entry."""
    return (
        document is not None
        and document.sequence == head.sequence
        and document.head == digest(head.data)
    )


def _parse(kind: type[M], data: bytes | None) -> M | None:
    """Read a document; one that an older version wrote otherwise is made anew."""
    if data is None:
        return None
    try:
        return read(kind, data)
    except Unreadable:
        return None


def place_of(
    rounds: Iterable[tuple[SessionDocument, Sequence[RoundDocument]]], model: Sha256
) -> tuple[SessionDocument, RoundDocument] | None:
    """Find the round that made a model."""
    for document, found in rounds:
        for one in found:
            made = one.last.model
            if made is not None and made.digest == model:
                return document, one
    return None
