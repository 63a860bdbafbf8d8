"""Work items by kind: the one place that says who does what."""

from typing import assert_never

from fedbus_runtime import tracing
from fedbus_runtime.errors import BlobCorrupt, BlobMissing, Reject, Retry
from fedbus_runtime.ports import RoundKey, StoredMessage
from fedbus_schemas.codec import Unreadable, read_work
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.work import FinishItem, FoldItem, RecountItem

from fedbus_combiner.finish import Finishing
from fedbus_combiner.fold import Folding
from fedbus_combiner.tally import Tallies

MODEL_TRIES_MAX = 5
"""Tries on a base model that is missing or damaged, which no waiting mends; then it is an operator's matter."""
MODEL_RETRY_S = 1.0


class Work:
    """The handler of the `combiners` consumer."""

    def __init__(self, folding: Folding, finishing: Finishing, tallies: Tallies) -> None:
        self._folding = folding
        self._finishing = finishing
        self._tallies = tallies

    async def on_item(self, message: StoredMessage) -> None:
        """Do one item. Raises `Away`: then it is done again, here or elsewhere."""
        try:
            item = read_work(message.data)
        except Unreadable as error:
            raise Reject(RefusalCode.UNREADABLE, str(error)) from error
        try:
            await self._do(item)
        except (
            BlobMissing
        ) as error:  # updates that are missing are refused one by one: it is the base
            raise _retry(error, RefusalCode.BLOB_MISSING) from error
        except BlobCorrupt as error:
            raise _retry(error, RefusalCode.HASH_MISMATCH) from error

    async def _do(self, item: FoldItem | FinishItem | RecountItem) -> None:
        match item:
            case FoldItem():
                key = RoundKey(item.project, item.session, item.round, item.attempt)
                tracing.about("fold", key)
                tracing.tell(updates=len(item.clients))
                await self._folding.fold(item)
            case FinishItem(opened=opened):
                key = RoundKey(item.project, item.session, opened.round, opened.attempt)
                tracing.about("finish", key)
                tracing.tell(step=item.closing.step)
                await self._finishing.finish(item)
            case RecountItem():
                await self._tallies.again(item.subject, item.sequence)
            case _:
                assert_never(item)


def _retry(error: Exception, code: RefusalCode) -> Retry:
    return Retry(f"base model: {error}", MODEL_RETRY_S, at_most=MODEL_TRIES_MAX, code=code)
