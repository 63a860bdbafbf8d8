"""Who is who: device keys, pseudonyms, names and payload keys, from the REGISTRY stream.

The table lies outside the log, so it can be erased. Each process keeps a copy; those that answer or
choose clients follow the live feed, so that who is erased is so at once.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from fedbus_schemas import subjects
from fedbus_schemas.codec import Unreadable, read
from fedbus_schemas.events import Participant
from fedbus_schemas.ids import ClientId, DeviceKey, ProjectId
from fedbus_schemas.registry import ClientRecord, ErasedClient
from fedbus_schemas.streams import REGISTRY
from structlog.stdlib import get_logger

from fedbus_runtime.errors import Conflict
from fedbus_runtime.ports import StoredMessage, Streams, Wire

log = get_logger()


@dataclass(slots=True)
class _Project:
    sequence: int = 0
    by_device: dict[DeviceKey, ClientRecord] = field(default_factory=dict)
    by_client: dict[ClientId, ClientRecord] = field(default_factory=dict)


class ClientRegistry:
    """The clients of every project."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._projects: dict[ProjectId, _Project] = {}

    @property
    def projects(self) -> list[ProjectId]:
        """The projects that somebody asked about."""
        return list(self._projects)

    async def by_device(self, project: ProjectId, device: DeviceKey) -> ClientRecord | None:
        """Find a client by the key that the server attests; asks the stream when it is not known."""
        known = self._projects.setdefault(project, _Project())
        if device not in known.by_device:
            message = await self._streams.last(REGISTRY, subjects.client_record(project, device))
            if message is not None:
                self._take(known, message)
        return known.by_device.get(device)

    async def by_clients(
        self, project: ProjectId, clients: Iterable[ClientId]
    ) -> dict[ClientId, ClientRecord]:
        """Find clients by pseudonym; those that were erased are left out."""
        known = self._projects.setdefault(project, _Project())
        wanted = list(clients)
        if any(client not in known.by_client for client in wanted):
            await self._catch_up(project, known)
        return {one: known.by_client[one] for one in wanted if one in known.by_client}

    async def everyone(self, project: ProjectId) -> list[ClientRecord]:
        """Give all clients of a project, sorted by pseudonym."""
        known = self._projects.setdefault(project, _Project())
        await self._catch_up(project, known)
        return [known.by_client[client] for client in sorted(known.by_client)]

    async def participants(
        self, project: ProjectId, clients: Iterable[ClientId]
    ) -> tuple[Participant, ...]:
        """Give clients with the keys that sign their manifests, sorted by pseudonym."""
        records = await self.by_clients(project, clients)
        return tuple(
            Participant(client=client, key=records[client].key) for client in sorted(records)
        )

    async def enter(self, project: ProjectId, record: ClientRecord) -> ClientRecord:
        """Write a client's record unless there is one already; give the one that stands.

        Where one was erased, the device is a new client. Raises `Conflict` when it is erased meanwhile.
        """
        subject = subjects.client_record(project, record.device)
        last = await self._streams.last(REGISTRY, subject)
        gone = last is not None and isinstance(read_client(last.data), ErasedClient)
        expected = last.sequence if last is not None and gone else 0
        try:
            await self._streams.append(subject, record.to_bytes(), expected=expected)
        except Conflict:
            standing = await self.by_device(project, record.device)
            if standing is None:
                raise
            return standing
        known = self._projects.setdefault(project, _Project())
        known.by_device[record.device] = record
        known.by_client[record.client] = record
        return record

    async def follow(self, wire: Wire) -> None:
        """Keep what is known as the stream has it, until cancelled. After an outage all is read again."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen(wire))
            while True:
                await wire.returned()
                self._projects.clear()

    async def _listen(self, wire: Wire) -> None:
        async for message in wire.listen(subjects.live_record()):
            _, project, *_, kind, _ = message.subject.split(".")
            if kind == "client" and project in self._projects:
                self._take(self._projects[project], message)

    async def _catch_up(self, project: ProjectId, known: _Project) -> None:
        subject = subjects.client_record(project)
        for message in await self._streams.read(REGISTRY, subject, after=known.sequence):
            self._take(known, message)
            known.sequence = message.sequence

    def _take(self, known: _Project, message: StoredMessage) -> None:
        device = message.subject.rpartition(".")[2]
        try:
            record = read_client(message.data)
        except Unreadable as error:
            log.error("registry_record_unreadable", subject=message.subject, why=str(error))
            return
        before = known.by_device.pop(device, None)
        if before is not None:
            known.by_client.pop(before.client, None)
        if isinstance(record, ErasedClient):
            return
        known.by_device[record.device] = record
        known.by_client[record.client] = record


def read_client(data: bytes) -> ClientRecord | ErasedClient:
    """Read what stands in a client's place. Raises `Unreadable`."""
    try:
        return read(ClientRecord, data)
    except Unreadable:
        return read(ErasedClient, data)
