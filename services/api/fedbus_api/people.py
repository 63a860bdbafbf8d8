"""Who takes part: clients, combiners, and what was refused them."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from fedbus_runtime.errors import RecordsAway
from fedbus_runtime.ports import Clock, Presence, StoredMessage, Streams
from fedbus_runtime.registry import ClientRegistry
from fedbus_schemas import subjects
from fedbus_schemas.codec import Unreadable, read
from fedbus_schemas.ids import ClientId, DeviceKey, ProjectId, PublicKey
from fedbus_schemas.refusals import RefusalNote
from fedbus_schemas.registry import ClientRecord
from fedbus_schemas.streams import NOTES
from fedbus_schemas.views import ClientView, CombinerView, RefusalView
from structlog.stdlib import get_logger

from fedbus_api.reading import Reader
from fedbus_api.tail import Tail

LAST_SEEN_MAX = timedelta(days=1)
"""How far back presence is asked for."""
REFUSALS_MAX = 10_000
"""Refusals that a list looks at, the newest."""

_log = get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRow:
    """A client in a list; the fields are those of `ClientView`."""

    client: ClientId
    name: str
    device: DeviceKey
    key: PublicKey
    since: datetime
    online: bool | None
    last_seen: datetime | None


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
        self._refusals = Tail(
            streams,
            clock,
            NOTES,
            subject=lambda project: subjects.refusal_note(project, "*", ">"),
            parse=_refusal,
            kept_max=REFUSALS_MAX,
        )
        self._presence = presence
        self._registry = registry
        self._reader = reader
        self._clock = clock
        self._lease = lease

    async def clients(self, project: ProjectId) -> list[ClientRow]:
        """Give the clients, with what is known of their presence."""
        records = await self._registry.everyone(project)
        seen = await self._seen(project)
        return [self._row(record, seen) for record in records]

    async def registered(self, project: ProjectId) -> list[ClientRecord]:
        """Give the clients as they are registered, by pseudonym."""
        return await self._registry.everyone(project)

    async def client(self, project: ProjectId, client: ClientId) -> ClientView | None:
        """Find a client by its pseudonym."""
        records = await self._registry.by_clients(project, [client])
        if client not in records:
            return None
        return client_view(self._row(records[client], await self._seen(project)))

    async def combiners(self, project: ProjectId) -> list[CombinerView]:
        """Give the combiners that worked on the project's rounds."""
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
        return list(found.values())

    async def refusals(self, project: ProjectId) -> list[RefusalView]:
        """Give what was refused, with the names of those it was refused, the oldest first."""
        noted = await self._refusals.rows(project)
        clients = {one.device: one.client for one in await self._registry.everyone(project)}
        return [
            one.model_copy(update={"client": clients[one.device]}) if one.device in clients else one
            for one in noted
        ]

    async def _seen(self, project: ProjectId) -> dict[ClientId, datetime] | None:
        try:
            return await self._presence.online(project, self._clock.now() - LAST_SEEN_MAX)
        except RecordsAway as away:
            _log.warning("presence.away", error=str(away))
            return None

    def _row(self, record: ClientRecord, seen: dict[ClientId, datetime] | None) -> ClientRow:
        last = seen.get(record.client) if seen is not None else None
        online = None
        if seen is not None:
            online = last is not None and last >= self._clock.now() - self._lease
        return ClientRow(
            client=record.client,
            name=record.name,
            device=record.device,
            key=record.key,
            since=record.since,
            online=online,
            last_seen=last,
        )


def client_view(row: ClientRow) -> ClientView:
    """Show a client."""
    return ClientView(
        client=row.client,
        name=row.name,
        device=row.device,
        key=row.key,
        since=row.since,
        online=row.online,
        last_seen=row.last_seen,
    )


def _refusal(note: StoredMessage) -> RefusalView | None:
    try:
        refusal = read(RefusalNote, note.data)
    except Unreadable:
        return None
    device, *verb = note.subject.split(".")[4:-1]
    return RefusalView(
        sequence=note.sequence,
        time=note.time,
        device=device,
        verb=".".join(verb),
        code=refusal.code,
        detail=refusal.detail,
        meaning=refusal.meaning,
        session=refusal.session,
        round=refusal.round,
    )
