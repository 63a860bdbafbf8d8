"""Hands items to whoever listens; a listener that is too slow loses the oldest, and nobody waits for it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

WAITING_MAX = 1000

Item = TypeVar("Item")


class Feed(Generic[Item]):
    """One sender, any number of listeners."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[Item]] = set()

    def send(self, item: Item) -> None:
        """Hand an item to all listeners."""
        for queue in self._queues:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(item)

    @contextmanager
    def listen(self) -> Iterator[asyncio.Queue[Item]]:
        """Give a queue of what is sent from now on."""
        queue: asyncio.Queue[Item] = asyncio.Queue(WAITING_MAX)
        self._queues.add(queue)
        try:
            yield queue
        finally:
            self._queues.discard(queue)
