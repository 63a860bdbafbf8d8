"""Deletes what a round leaves in the object store that nobody will ask for again."""

import asyncio
from collections.abc import Iterable

import structlog
from fedbus_core.rounds.state import Session
from fedbus_runtime.errors import StoreAway
from fedbus_runtime.pieced_blobs import unfinished
from fedbus_runtime.ports import Blobs
from fedbus_runtime.together import together
from fedbus_schemas import keys
from fedbus_schemas.ids import ClientId, ProjectId
from fedbus_schemas.pieces import PIECE_BYTES_MIN

LOOKS_AT_ONCE = 8

_log = structlog.get_logger(__name__)


async def drop_unfinished_uploads(blobs: Blobs, state: Session, number: int, attempt: int) -> None:
    """Delete the pieces of updates that did not get there in time.

    A client that uploads for another session meanwhile finds out at its end, and sends them again. A store
    that is away holds nobody up: the next round that such a client misses deletes them.
    """
    outcome = state.outcome
    if outcome is None or (outcome.number, outcome.attempt) != (number, attempt):
        return
    if state.model.size <= PIECE_BYTES_MIN:
        return  # nobody sends so little in pieces
    missing = [one.client for one in outcome.cohort if one.client not in outcome.counted]
    try:
        await _drop(blobs, state.project, missing)
    except StoreAway as away:
        _log.warning("pieces.kept", session=state.session, why=str(away))


async def _drop(blobs: Blobs, project: ProjectId, clients: Iterable[ClientId]) -> None:
    slots = asyncio.Semaphore(LOOKS_AT_ONCE)

    async def look(client: ClientId) -> None:
        async with slots:
            found = unfinished(await blobs.list(keys.pieces_of_client(project, client)))
            if found:
                await blobs.delete(found)

    async with together() as looks:
        for client in clients:
            looks.create_task(look(client))
