"""Waits, for a bounded time, until a log shows what it was asked for: the live feed wakes, the log tells."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from fedbus_runtime.errors import BusAway
from fedbus_runtime.ports import Clock, Wire

LOOK_INTERVAL_S = 0.5
"""How often the log is read while waiting, for the case that the live feed missed the entry."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Watch:
    """Watches live feeds."""

    wire: Wire
    clock: Clock

    async def until(
        self,
        live: str,
        look: Callable[[], Awaitable[T | None]],
        wait_s: float,
        publish: Callable[[], Awaitable[None]] | None = None,
    ) -> T | None:
        """Give what `look` finds, asked again whenever something comes on the subject `live`.

        None: it found nothing within `wait_s`. `publish` is called once the feed is heard, so that what it
        causes is not missed. Raises what the two raise.
        """
        woken = asyncio.Event()
        found = None
        try:
            async with asyncio.TaskGroup() as tasks:
                listening = tasks.create_task(self._wake(live, woken))
                await asyncio.sleep(0)  # its first step subscribes
                if publish is not None:
                    await publish()
                found = await self._look(look, wait_s, woken)
                listening.cancel()
        except ExceptionGroup as group:
            raise _leaf(group) from group
        return found

    async def _wake(self, live: str, woken: asyncio.Event) -> None:
        try:
            async for _ in self.wire.listen(live):
                woken.set()
        except BusAway:
            return  # the log is read at intervals too

    async def _look(
        self, look: Callable[[], Awaitable[T | None]], wait_s: float, woken: asyncio.Event
    ) -> T | None:
        end = self.clock.monotonic() + wait_s
        while True:
            woken.clear()
            found = await look()
            left = end - self.clock.monotonic()
            if found is not None or left <= 0:
                return found
            try:
                async with asyncio.timeout(min(left, LOOK_INTERVAL_S)):
                    await woken.wait()
            except TimeoutError:
                pass  # look again all the same


def _leaf(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Give the first error of a group, which is the one of the task itself."""
    first = group.exceptions[0]
    return _leaf(first) if isinstance(first, BaseExceptionGroup) else first
