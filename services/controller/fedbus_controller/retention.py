"""Deletes stored updates that a session no longer keeps: their blobs first, then the messages naming them."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

import structlog
from fedbus_runtime.paging import in_pages
from fedbus_runtime.ports import Blobs, StoredMessage, Streams
from fedbus_runtime.together import together
from fedbus_schemas import keys, subjects
from fedbus_schemas.codec import Unreadable, read
from fedbus_schemas.ids import ClientId, ProjectId, SessionId, Sha256
from fedbus_schemas.streams import UPDATES
from fedbus_schemas.updates import Manifest, StoredUpdate

UPDATES_AT_ONCE = 100
"""Updates read at once; one with an inline blob has up to 90 KB."""
LOOKS_AT_ONCE = 8

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Found:
    """Which blobs the messages under a subject name, by client, and the sequences of the messages."""

    blobs: dict[ClientId, set[Sha256]] = field(default_factory=dict)
    sequences: set[int] = field(default_factory=set)


async def drop_updates(
    streams: Streams, blobs: Blobs, project: ProjectId, session: SessionId, subject: str
) -> None:
    """Delete what is stored under a subject of UPDATES. Doing it again finds nothing more.

    A blob that another stored update of its client names too stays: a client that made the very same
    update twice sent it once. Raises `BusAway`, `StoreAway`.
    """
    found = _Found()
    async for message in in_pages(streams, UPDATES, subject, at_once=UPDATES_AT_ONCE):
        found.sequences.add(message.sequence)
        named = _named(message)
        if named is not None:
            found.blobs.setdefault(named.client, set()).add(named.update.digest)
    if not found.sequences:
        return
    slots = asyncio.Semaphore(LOOKS_AT_ONCE)

    async def drop(client: ClientId, digests: set[Sha256]) -> None:
        async with slots:
            kept = await _named_elsewhere(streams, project, client, found.sequences)
            gone = sorted(digests - kept)
            await blobs.delete([keys.update(project, client, digest) for digest in gone])

    async with together() as drops:
        for client, digests in found.blobs.items():
            drops.create_task(drop(client, digests))
    await streams.cancel(UPDATES, subject)
    _log.info("updates.pruned", project=project, session=session, updates=len(found.sequences))


async def _named_elsewhere(
    streams: Streams, project: ProjectId, client: ClientId, but: Iterable[int]
) -> set[Sha256]:
    """Give the blobs that a client's other stored updates name."""
    named: set[Sha256] = set()
    left_out = frozenset(but)
    subject = subjects.update(project, "*", "*", client, "*")
    async for message in in_pages(streams, UPDATES, subject, at_once=UPDATES_AT_ONCE):
        manifest = None if message.sequence in left_out else _named(message)
        if manifest is not None:
            named.add(manifest.update.digest)
    return named


def _named(message: StoredMessage) -> Manifest | None:
    """Read which blob a message names; None when its bytes came along, or cannot be read."""
    try:
        stored = read(StoredUpdate, message.data)
        return None if stored.inline is not None else read(Manifest, stored.manifest)
    except Unreadable:
        return None
