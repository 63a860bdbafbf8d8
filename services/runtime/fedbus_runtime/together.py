"""Tasks side by side whose failure is the failure itself, not a group that holds it.

Who calls knows `Away` and `Retry`; an `ExceptionGroup` around one of them would pass for a bug.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from fedbus_runtime.errors import RuntimeFault


@asynccontextmanager
async def together() -> AsyncIterator[asyncio.TaskGroup]:
    """Give a task group. When tasks fail, the others are cancelled and one exception is raised: a bug
    before a fault of ours, so that no bug hides behind a server that is away.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            yield tasks
    except ExceptionGroup as group:
        leaves = list(_leaves(group))
        bugs = [each for each in leaves if not isinstance(each, RuntimeFault)]
        raise (bugs or leaves)[0] from group


def _leaves(fault: Exception) -> Iterator[Exception]:
    if isinstance(fault, ExceptionGroup):
        for each in fault.exceptions:
            yield from _leaves(each)
    else:
        yield fault
