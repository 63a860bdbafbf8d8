"""A fold item: one batch of stored updates becomes a partial sum. A cache, so losing one costs only time."""

import asyncio
from collections.abc import Sequence
from hashlib import sha256

from fedbus_core.aggregation.round_sum import RoundSum
from fedbus_core.aggregation.tensorfile import Buffer
from fedbus_core.rounds.state import Session
from fedbus_runtime.folded_log import FoldedLog
from fedbus_runtime.ports import Blobs, RoundKey, RoundRecords
from fedbus_schemas import keys
from fedbus_schemas.ids import InstanceName
from fedbus_schemas.models import BlobRef
from fedbus_schemas.work import FoldItem, PartialRecord

from fedbus_combiner.summing import Summing, clients_of
from fedbus_combiner.updates import Updates

ANY_SEQUENCE = 2**62


class Folding:
    """Does fold items."""

    def __init__(
        self,
        instance: InstanceName,
        log: FoldedLog[Session],
        updates: Updates,
        summing: Summing,
        blobs: Blobs,
        records: RoundRecords,
    ) -> None:
        self._instance = instance
        self._log = log
        self._updates = updates
        self._summing = summing
        self._blobs = blobs
        self._records = records

    async def fold(self, item: FoldItem) -> None:
        """Fold the batch unless the attempt is over already. Raises `Away`."""
        state = await self._log.newest(item.project, item.session)
        if state is None or state.round is None or not _is_open(state, item):
            return
        key = RoundKey(item.project, item.session, item.round, item.attempt)
        candidates = await self._updates.up_to(key, item.clients, ANY_SEQUENCE)
        total = await self._summing.begin(item.project, state.round.model, state.settings)
        if not isinstance(total, RoundSum):
            return  # nothing can be summed beforehand
        folded = await self._summing.fold(total, key, list(candidates.values()))
        parts = total.total.parts()
        blob = await asyncio.to_thread(_ref, parts)
        place = keys.partial(item.project, item.session, item.round, item.attempt, blob.digest)
        await self._blobs.put(place, parts)
        if not _is_open(await self._log.newest(item.project, item.session), item):
            await self._blobs.delete([place])  # what is left behind now, nobody would delete
            return
        partial = PartialRecord(
            clients=clients_of(folded.counted),
            refused=tuple(folded.refused),
            blob=blob,
            worker=self._instance,
        )
        await self._records.put_partial(key, partial)


def _ref(parts: Sequence[Buffer]) -> BlobRef:
    """Hash a partial; it has the size of two models."""
    digest = sha256()
    for part in parts:
        digest.update(part)
    return BlobRef(digest=digest.hexdigest(), size=sum(memoryview(p).nbytes for p in parts))


def _is_open(state: Session | None, item: FoldItem) -> bool:
    """Whether the attempt that the item belongs to is not over."""
    if state is None or state.round is None:
        return False
    return state.round.is_attempt(item.round, item.attempt)
