"""Work items by kind: the one place that says who does what."""

from typing import assert_never

from fedbus_runtime.errors import Reject
from fedbus_runtime.ports import StoredMessage
from fedbus_schemas.codec import Unreadable, read_work
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.work import FinishItem, FoldItem

from fedbus_combiner.finish import Finishing
from fedbus_combiner.fold import Folding


class Work:
    """The handler of the `combiners` consumer."""

    def __init__(self, folding: Folding, finishing: Finishing) -> None:
        self._folding = folding
        self._finishing = finishing

    async def on_item(self, message: StoredMessage) -> None:
        """Do one item. Raises `Away`: then it is done again, here or elsewhere."""
        try:
            item = read_work(message.data)
        except Unreadable as error:
            raise Reject(RefusalCode.UNREADABLE, str(error)) from error
        match item:
            case FoldItem():
                await self._folding.fold(item)
            case FinishItem():
                await self._finishing.finish(item)
            case _:
                assert_never(item)
