"""Who takes part: clients, combiners, and what was refused them."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from fedbus_runtime.errors import Conflict, RecordsAway
from fedbus_runtime.ports import Clock, Presence, StoredMessage, Streams
from fedbus_runtime.registry import ClientRegistry, read_client
from fedbus_schemas import subjects
from fedbus_schemas.codec import Unreadable, read
from fedbus_schemas.ids import ClientId, DeviceKey, ProjectId, PublicKey, SessionId
from fedbus_schemas.refusals import RefusalCode, RefusalNote
from fedbus_schemas.registry import ClientRecord, ErasedClient
from fedbus_schemas.streams import REGISTRY, Stream
from fedbus_schemas.views import ClientView, CombinerView, ControllerView, RefusalView
from structlog.stdlib import get_logger

from fedbus_api.documents import SessionDocument, Worker
from fedbus_api.problems import Problem
from fedbus_api.reading import Reader
from fedbus_api.tail import Tail

LAST_SEEN_MAX = timedelta(days=1)
"""How far back presence is asked for."""
TRIES_MAX = 5
"""How often a client's record is written again because another was first."""
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
        notes: Stream,
    ) -> None:
        """`notes` is NOTES, with how long it is."""
        self._refusals = Tail(
            streams,
            clock,
            notes,
            subject=lambda project: subjects.refusal_note(project, "*", ">"),
            parse=_refusal,
            kept_max=REFUSALS_MAX,
        )
        self._streams = streams
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
        record = await self._find(project, client)
        return client_view(self._row(record, await self._seen(project))) if record else None

    async def combiners(self, project: ProjectId) -> list[CombinerView]:
        """Give the combiners that worked on the project's rounds."""
        documents = await self._reader.sessions(project)
        found = _newest((one, worker) for one in documents for worker in one.workers)
        return [CombinerView(session=session, **_worker(one)) for session, one in found]

    async def controllers(self, project: ProjectId) -> list[ControllerView]:
        """Give the controllers that decided on the project's sessions."""
        documents = await self._reader.sessions(project)
        found = _newest((one, worker) for one in documents for worker in one.controllers)
        return [ControllerView(session=session, **_worker(one)) for session, one in found]

    async def rename(self, project: ProjectId, client: ClientId, name: str) -> ClientView:
        """Give a client another name for people. Raises `Problem` when there is no such client."""
        for _ in range(TRIES_MAX):
            record = await self._known(project, client)
            renamed = record.model_copy(update={"name": name})
            if renamed == record or await self._replace(project, record.device, renamed):
                return client_view(self._row(renamed, await self._seen(project)))
        raise Problem(RefusalCode.RETRY_LATER, f"client {client}: others changed it each time")

    async def erase(self, project: ProjectId, client: ClientId) -> None:
        """Forget who a pseudonym is. Raises `Problem` when there is no such client.

        What the log and the records say of the pseudonym stays. A device that comes again is a new client.
        """
        for _ in range(TRIES_MAX):
            record = await self._known(project, client)
            subject = subjects.attributes_record(project, client)
            await self._streams.cancel(REGISTRY, subject)
            try:
                await self._presence.gone(project, [client], self._clock.now() - LAST_SEEN_MAX)
            except RecordsAway as away:
                _log.warning("presence.away", error=str(away))
            erased = ErasedClient(erased=self._clock.now())
            if await self._replace(project, record.device, erased):
                return
        raise Problem(RefusalCode.RETRY_LATER, f"client {client}: others changed it each time")

    async def _known(self, project: ProjectId, client: ClientId) -> ClientRecord:
        record = await self._find(project, client)
        if record is None:
            raise Problem(RefusalCode.CLIENT_UNKNOWN, f"client {client} in project {project}")
        return record

    async def _find(self, project: ProjectId, client: ClientId) -> ClientRecord | None:
        everyone = await self._registry.everyone(project)  # as the stream has it now
        return next((one for one in everyone if one.client == client), None)

    async def _replace(
        self, project: ProjectId, device: DeviceKey, record: ClientRecord | ErasedClient
    ) -> bool:
        """Write a client's record anew; False when another was first."""
        subject = subjects.client_record(project, device)
        last = await self._streams.last(REGISTRY, subject)
        if last is None or isinstance(read_client(last.data), ErasedClient):
            return False
        try:
            await self._streams.append(subject, record.to_bytes(), expected=last.sequence)
        except Conflict:
            return False
        return True

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


def _newest(
    worked: Iterable[tuple[SessionDocument, Worker]],
) -> list[tuple[SessionId, Worker]]:
    """Give each worker as it was seen last, with the session."""
    found: dict[str, tuple[SessionId, Worker]] = {}
    for document, worker in worked:
        known = found.get(worker.name)
        if known is None or known[1].seen < worker.seen:
            found[worker.name] = document.session, worker
    return list(found.values())


def _worker(one: Worker) -> dict[str, Any]:
    return {"name": one.name, "round": one.round, "last_seen": one.seen}


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
