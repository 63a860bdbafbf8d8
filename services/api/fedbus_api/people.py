"""Who takes part: clients, combiners, and what was refused them."""

from datetime import datetime, timedelta

from fedbus_runtime.errors import RecordsAway
from fedbus_runtime.ports import Clock, Presence, StoredMessage, Streams
from fedbus_runtime.registry import ClientRegistry
from fedbus_schemas import subjects
from fedbus_schemas.codec import Unreadable, read
from fedbus_schemas.ids import ClientId, ProjectId, SessionId
from fedbus_schemas.refusals import RefusalNote
from fedbus_schemas.registry import ClientRecord
from fedbus_schemas.streams import NOTES
from fedbus_schemas.views import ClientView, CombinerView, RefusalView
from structlog.stdlib import get_logger

from fedbus_api.reading import Reader

LAST_SEEN_MAX = timedelta(days=1)
"""How far back presence is asked for."""
NOTES_LOOKED_AT_MAX = 10_000
NOTES_AT_ONCE = 500

_log = get_logger()


class People:
    """Reads the registry, presence and the notes."""

    def __init__(
        self,
        streams: Streams,
        presence: Presence,
        registry: ClientRegistry,
        reader: Reader,
        clock: Clock,
        lease: timedelta,
    ) -> None:
        self._streams = streams
        self._presence = presence
        self._registry = registry
        self._reader = reader
        self._clock = clock
        self._lease = lease

    async def clients(self, project: ProjectId) -> list[ClientView]:
        """List the clients, those that joined last first."""
        records = await self._registry.everyone(project)
        seen = await self._seen(project)
        views = [self._view(record, seen) for record in records]
        return sorted(views, key=lambda one: (one.since, one.client), reverse=True)

    async def client(self, project: ProjectId, client: ClientId) -> ClientView | None:
        """Find a client by its pseudonym."""
        records = await self._registry.by_clients(project, [client])
        if client not in records:
            return None
        return self._view(records[client], await self._seen(project))

    async def combiners(self, project: ProjectId) -> list[CombinerView]:
        """List the combiners that worked on the project's rounds, the last one first."""
        found: dict[str, CombinerView] = {}
        for document in await self._reader.sessions(project):
            for worker in document.workers:
                known = found.get(worker.name)
                if known is None or known.last_seen < worker.seen:
                    found[worker.name] = CombinerView(
                        name=worker.name,
                        session=document.session,
                        round=worker.round,
                        last_seen=worker.seen,
                    )
        return sorted(found.values(), key=lambda one: (one.last_seen, one.name), reverse=True)

    async def refusals(
        self, project: ProjectId, session: SessionId | None, limit: int
    ) -> list[RefusalView]:
        """List what was refused, the last first. Looks back a bounded number of notes."""
        subject = subjects.refusal_note(project, "*", ">")
        newest = await self._streams.last(NOTES, subject)
        if newest is None:
            return []
        found: list[RefusalView] = []
        top = newest.sequence
        bottom = max(0, top - NOTES_LOOKED_AT_MAX)
        while top > bottom and len(found) < limit:
            start = max(bottom, top - NOTES_AT_ONCE)
            notes = await self._streams.read(NOTES, subject, after=start, limit=top - start)
            views = [await self._refusal(project, one) for one in notes if one.sequence <= top]
            found += [view for view in reversed(views) if view and session in (None, view.session)]
            top = start
        return found[:limit]

    async def _refusal(self, project: ProjectId, note: StoredMessage) -> RefusalView | None:
        try:
            refusal = read(RefusalNote, note.data)
        except Unreadable:
            return None
        device, *verb = note.subject.split(".")[4:-1]
        record = await self._registry.by_device(project, device)
        return RefusalView(
            sequence=note.sequence,
            time=note.time,
            device=device,
            client=record.client if record is not None else None,
            verb=".".join(verb),
            code=refusal.code,
            detail=refusal.detail,
            meaning=refusal.meaning,
            session=refusal.session,
            round=refusal.round,
        )

    async def _seen(self, project: ProjectId) -> dict[ClientId, datetime] | None:
        try:
            return await self._presence.online(project, self._clock.now() - LAST_SEEN_MAX)
        except RecordsAway as away:
            _log.warning("presence.away", error=str(away))
            return None

    def _view(self, record: ClientRecord, seen: dict[ClientId, datetime] | None) -> ClientView:
        last = seen.get(record.client) if seen is not None else None
        online = None
        if seen is not None:
            online = last is not None and last >= self._clock.now() - self._lease
        return ClientView(
            client=record.client,
            name=record.name,
            device=record.device,
            key=record.key,
            since=record.since,
            online=online,
            last_seen=last,
        )
