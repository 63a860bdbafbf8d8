"""Who can be asked now: the clients that Redis has heard of lately, with their keys."""

from datetime import datetime, timedelta

import structlog
from fedbus_runtime.attributes import AttributeTable
from fedbus_runtime.errors import RecordsAway
from fedbus_runtime.ports import Presence
from fedbus_runtime.registry import ClientRegistry
from fedbus_schemas.events import Participant
from fedbus_schemas.ids import ProjectId
from fedbus_schemas.selection import ClientQuery

LEASE = timedelta(seconds=30)
"""A client is online for so long after it was heard of: three heartbeats."""

_log = structlog.get_logger(__name__)


class Candidates:
    """Finds the clients of a project that are online."""

    def __init__(
        self, presence: Presence, registry: ClientRegistry, attributes: AttributeTable
    ) -> None:
        self._presence = presence
        self._registry = registry
        self._attributes = attributes

    async def meant(
        self, project: ProjectId, query: ClientQuery | None, online: tuple[Participant, ...]
    ) -> tuple[Participant, ...]:
        """Give those of the clients online whom a session's query means. Raises `BusAway`."""
        if query is None:
            return online
        records = await self._registry.by_clients(project, [one.client for one in online])
        choice = await self._attributes.choose(project, query, records.values())
        chosen = {record.client for record in choice.chosen}
        return tuple(one for one in online if one.client in chosen)

    async def online(self, project: ProjectId, now: datetime) -> tuple[Participant, ...]:
        """Give those online, sorted. While Redis is away or has forgotten, everyone known counts as online:
        a round then asks some who are not there, and its deadline and minimum decide, as always.
        """
        try:
            seen = await self._presence.online(project, now - LEASE)
        except RecordsAway as away:
            _log.warning("presence.away", why=str(away))
            seen = None
        if seen is None:
            records = await self._registry.everyone(project)
            return tuple(Participant(client=one.client, key=one.key) for one in records)
        return await self._registry.participants(project, seen)
