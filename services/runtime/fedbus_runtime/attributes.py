"""What clients are like now: their attributes, from the REGISTRY stream, to choose clients by a query.

Each process keeps a copy; every look reads only what is newer, in one request, so there is nothing to
poll and nothing to follow. `client` is the key of everything: the registry knows the names.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from fedbus_schemas import subjects
from fedbus_schemas.codec import Unreadable, read
from fedbus_schemas.ids import ClientId, ProjectId, Scalar
from fedbus_schemas.records import ClientAttributes
from fedbus_schemas.registry import ClientRecord
from fedbus_schemas.selection import ClientQuery, mismatch
from fedbus_schemas.streams import REGISTRY
from structlog.stdlib import get_logger

from fedbus_runtime.paging import in_pages
from fedbus_runtime.ports import Streams

AT_ONCE = 500

log = get_logger()


@dataclass(slots=True)
class _Project:
    sequence: int = 0
    known: dict[ClientId, ClientAttributes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Choice:
    """The clients that a query means, and why each other one is not meant, both by pseudonym in order."""

    chosen: tuple[ClientRecord, ...]
    left_out: Mapping[ClientId, str]


class AttributeTable:
    """The attributes of every project's clients."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._projects: dict[ProjectId, _Project] = {}

    async def everyone(self, project: ProjectId) -> dict[ClientId, ClientAttributes]:
        """Give all that is known now. Raises `BusAway`."""
        kept = self._projects.setdefault(project, _Project())
        subject = subjects.attributes_record(project)
        pages = in_pages(self._streams, REGISTRY, subject, at_once=AT_ONCE, after=kept.sequence)
        async for message in pages:
            kept.sequence = max(kept.sequence, message.sequence)
            try:
                record = read(ClientAttributes, message.data)
            except Unreadable as error:
                log.error("attributes.unreadable", subject=message.subject, why=str(error))
                continue
            kept.known[subjects.token(message.subject, 4)] = record
        return dict(kept.known)

    async def choose(
        self, project: ProjectId, query: ClientQuery, clients: Iterable[ClientRecord]
    ) -> Choice:
        """Say which of these clients a query means. Asks the bus only for conditions. Raises `BusAway`."""
        known = await self.everyone(project) if query.where else {}
        chosen: list[ClientRecord] = []
        left_out: dict[ClientId, str] = {}
        for record in sorted(clients, key=lambda one: one.client):
            attributes = values(known.get(record.client))
            why = mismatch(query, record.client, record.name, attributes)
            if why is None:
                chosen.append(record)
            else:
                left_out[record.client] = why
        return Choice(tuple(chosen), left_out)


def values(known: ClientAttributes | None) -> dict[str, Scalar]:
    """Give plain values by key, without what was taken away."""
    if known is None:
        return {}
    return {key: one.value for key, one in known.attributes.items() if one.value is not None}
