"""Deletes what a round leaves in the object store that nobody will ask for again."""

import asyncio
from collections.abc import Iterable
from datetime import timedelta

import structlog
from fedbus_core.rounds.state import Session
from fedbus_runtime.errors import StoreAway
from fedbus_runtime.pieced_blobs import unfinished
from fedbus_runtime.ports import Blobs, Clock
from fedbus_runtime.together import together
from fedbus_schemas import keys
from fedbus_schemas.ids import ClientId, ProjectId
from fedbus_schemas.pieces import PIECE_BYTES_MIN

LOOKS_AT_ONCE = 8
UNFINISHED_AGE_MAX = timedelta(days=1)
"""An upload in pieces to which nothing was added for so long is given up, whoever it is from."""
SWEEP_EVERY_S = 3600.0

_log = structlog.get_logger(__name__)


class Leftovers:
    """Drops the pieces of updates that did not get there in time.

    A client that hears of the round's end gives up by itself, and its combiner drops what is there. This is
    for those that do not: who missed the round, at its end; and of the whole project, now and then when a
    round ends, what has lain there for a day.
    """

    def __init__(self, blobs: Blobs, clock: Clock) -> None:
        self._blobs = blobs
        self._clock = clock
        self._swept_s: dict[ProjectId, float] = {}

    async def drop(self, state: Session, number: int, attempt: int) -> None:
        """Delete what an attempt left.

        A client that uploads for another session meanwhile finds out at its end, and sends them again. A
        store that is away holds nobody up: a later round deletes them.
        """
        outcome = state.outcome
        if outcome is None or (outcome.number, outcome.attempt) != (number, attempt):
            return
        if state.model.size <= PIECE_BYTES_MIN:
            return  # nobody sends so little in pieces
        missing = [one.client for one in outcome.cohort if one.client not in outcome.counted]
        try:
            await self._drop(state.project, missing)
            now_s = self._clock.monotonic()
            if now_s - self._swept_s.get(state.project, -SWEEP_EVERY_S) >= SWEEP_EVERY_S:
                self._swept_s[state.project] = now_s
                await self._sweep(state.project)
        except StoreAway as away:
            _log.warning("pieces.kept", session=state.session, why=str(away))

    async def _drop(self, project: ProjectId, clients: Iterable[ClientId]) -> None:
        slots = asyncio.Semaphore(LOOKS_AT_ONCE)

        async def look(client: ClientId) -> None:
            async with slots:
                found = await self._blobs.list(keys.pieces_of_client(project, client))
                await self._delete(unfinished(found))

        async with together() as looks:
            for client in clients:
                looks.create_task(look(client))

    async def _sweep(self, project: ProjectId) -> None:
        written = await self._blobs.written(keys.all_pieces(project))
        before = self._clock.now() - UNFINISHED_AGE_MAX
        await self._delete(
            each for each in unfinished(written) if max(written[key] for key in each) < before
        )

    async def _delete(self, updates: Iterable[list[str]]) -> None:
        pieces = [key for each in updates for key in each]
        if pieces:
            await self._blobs.delete(pieces)
