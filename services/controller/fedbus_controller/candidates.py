"""Who can be asked now: the clients that Redis has heard of lately, with their keys."""

from collections.abc import Collection
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
KNOWN = timedelta(hours=1)
"""So far back a client that is not online any more is told from one of which nothing is known."""
YOUNG = timedelta(seconds=12)
"""Records of presence that reach no farther back may lack clients: not all have sent a heartbeat since."""

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
        asked = {one.client for one in online}
        records = [one for one in await self._registry.everyone(project) if one.client in asked]
        choice = await self._attributes.choose(project, query, records)
        chosen = {record.client for record in choice.chosen}
        return tuple(one for one in online if one.client in chosen)

    async def online(
        self, project: ProjectId, now: datetime, last: Collection[Participant] = ()
    ) -> tuple[Participant, ...]:
        """Give those online, sorted. While Redis is away or has forgotten, everyone known counts as online:
        a round then asks some who are not there, and its deadline and minimum decide, as always.

        `last` is whom the session asked last: right after Redis has forgotten, those of them of whom
        nothing is known yet count as online too.
        """
        try:
            known = await self._presence.online(project, now - KNOWN)
        except RecordsAway as away:
            _log.warning("presence.away", why=str(away))
            known = None
        if known is None:
            records = await self._registry.everyone(project)
            return tuple(Participant(client=one.client, key=one.key) for one in records)
        seen = [client for client, heard in known.items() if heard >= now - LEASE]
        online = await self._registry.participants(project, seen)
        unheard = {one for one in last if one.client not in known}
        if unheard and await self._is_young(project, now):
            online = tuple(sorted(unheard.union(online), key=lambda one: one.client))
        return online

    async def _is_young(self, project: ProjectId, now: datetime) -> bool:
        try:
            since = await self._presence.known_since(project)
        except RecordsAway:
            return True
        return since is None or now - since < YOUNG
