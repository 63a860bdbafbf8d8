"""Many who want the same call made at once share one: what a hundred wait for, a server is asked once."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from fedbus_runtime.errors import RuntimeFault

T = TypeVar("T")


@dataclass(slots=True, weakref_slot=True)
class Joined(Generic[T]):
    """One call at a time; all who come while it runs share the next one.

    So everybody gets what a call gave that began after they asked. A fault of ours is shared like a
    result; a call that was cancelled or met a bug is made again by the next who waits.
    """

    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _begun: int = 0
    _done: int = 0
    _results: list[T] = field(default_factory=list)
    _fault: RuntimeFault | None = None

    async def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """Give what `work` gives, mine or that of another who waited. Raises what it raises."""
        enough = self._begun + 1
        async with self._lock:
            if self._done < enough:
                await self._make(work)
            if self._fault is not None:
                raise self._fault
            return self._results[0]

    async def _make(self, work: Callable[[], Awaitable[T]]) -> None:
        self._begun += 1
        number = self._begun
        try:
            self._results, self._fault = [await work()], None
        except RuntimeFault as fault:
            self._results, self._fault = [], fault
        self._done = number
