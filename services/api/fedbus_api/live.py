"""What the log does not say: live counts from Redis, and what clients reported, from the streams."""

import asyncio
from collections.abc import Collection
from contextlib import aclosing
from datetime import datetime
from typing import TypeAlias

from fedbus_runtime.errors import RecordsAway
from fedbus_runtime.paging import in_pages
from fedbus_runtime.ports import RoundKey, RoundRecords, StoredMessage, Streams
from fedbus_schemas import subjects
from fedbus_schemas.codec import Unreadable, read
from fedbus_schemas.ids import ClientId
from fedbus_schemas.streams import UPDATES
from fedbus_schemas.updates import Manifest, StoredUpdate, Timings
from fedbus_schemas.views import RoundAttempts, SessionView, TimelineView, ValidationView
from pydantic import ValidationError
from structlog.stdlib import get_logger

from fedbus_api.dead_letters import DeadLetters
from fedbus_api.documents import Attempt, RoundDocument, SessionDocument
from fedbus_api.validations import Means, Validations
from fedbus_api.views import NO_VALIDATION, round_attempts, session_view, timeline_view

TIMELINE_CLIENTS_MAX = 500
"""Clients that a timeline shows, those whose update came first."""
UPDATES_AT_ONCE = 100
"""Updates read at once; one with an inline blob has up to 90 KB."""

Arrival: TypeAlias = tuple[ClientId, datetime, Timings]
"""A client, when its update was stored, and how long it took for what."""

_log = get_logger()


class Live:
    """Completes documents to views."""

    def __init__(
        self,
        streams: Streams,
        records: RoundRecords,
        dead_letters: DeadLetters,
        validations: Validations,
    ) -> None:
        self._streams = streams
        self._records = records
        self._dead_letters = dead_letters
        self._validations = validations

    async def session(self, document: SessionDocument) -> SessionView:
        """Show a session with its live count, its last model's validation and what holds it up."""
        return await self.completed(document, await self._validations.means(document.project))

    async def completed(self, document: SessionDocument, means: Means) -> SessionView:
        """Show a session, as `session` does, with the project's means at hand."""
        stored, stuck = await asyncio.gather(
            self.stored(document), self._dead_letters.stuck(document)
        )
        return session_view(document, stored, validated(means, document), stuck)

    async def round(self, session: SessionDocument, document: RoundDocument) -> RoundAttempts:
        """Show a round with its validation."""
        means = await self._validations.means(session.project)
        return round_attempts(session.session, document, means.of)

    async def stored(self, document: SessionDocument) -> int | None:
        """Count the open attempt's stored updates: in Redis, or in UPDATES when Redis does not know."""
        if document.open is None or document.latest is None:
            return None
        key = RoundKey(
            document.project, document.session, document.latest.number, document.open.attempt
        )
        try:
            live = await self._records.get_round(key.project, key.session)
            if live is not None and (live.round, live.attempt) == (key.round, key.attempt):
                return len(await self._records.counted(key))
        except RecordsAway as away:
            _log.warning("records.away", error=str(away))
        subject = subjects.updates_of(key.project, key.session, key.round, key.attempt)
        return len(await self._streams.subjects(UPDATES, subject))

    async def timeline(
        self, session: SessionDocument, number: int, attempt: Attempt
    ) -> TimelineView:
        """Lay out the time of an attempt."""
        arrivals, left_out = await self.arrivals(session, number, attempt, attempt.counted)
        return timeline_view(session.session, number, attempt, arrivals, left_out)

    async def arrivals(
        self, session: SessionDocument, number: int, attempt: Attempt, of: Collection[ClientId]
    ) -> tuple[list[Arrival], int]:
        """Give when the updates of these clients (none = all) were stored, and how many more there are."""
        wanted = frozenset(of)
        subject = subjects.updates_of(session.project, session.session, number, attempt.attempt)
        found: list[Arrival] = []
        pages = in_pages(self._streams, UPDATES, subject, at_once=UPDATES_AT_ONCE)
        async with aclosing(pages) as stored:
            async for message in stored:
                client = subjects.token(message.subject, 5)
                if client in wanted or not wanted:
                    found.append((client, message.time, _timings(message)))
                if len(found) == TIMELINE_CLIENTS_MAX:
                    break
        return found, max(0, len(wanted) - len(found))


def validated(means: Means, document: SessionDocument) -> ValidationView:
    """Give what was measured of a session's newest model."""
    if not document.completed:
        return NO_VALIDATION
    return means.of(document.session, document.completed, document.model.digest)


def _timings(message: StoredMessage) -> Timings:
    try:
        return manifest(message).timings
    except (Unreadable, ValidationError):
        return Timings()


def manifest(message: StoredMessage) -> Manifest:
    """Read the manifest of a stored update. Raises `Unreadable`, `ValidationError`."""
    return read(StoredUpdate, message.data).content()
