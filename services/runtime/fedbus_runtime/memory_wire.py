"""What is not stored, in memory: requests, answers and live feeds."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from fedbus_runtime.consumer import answered
from fedbus_runtime.errors import NoAnswer
from fedbus_runtime.memory_streams import MemoryServer, matches
from fedbus_runtime.ports import Request, StoredMessage

SERVED_AT_ONCE_MAX = 64

Answer = asyncio.Future[bytes]


@dataclass(slots=True)
class _Desk:
    """One server of a subject in a queue group."""

    subject: str
    queue: str
    waiting: asyncio.Queue[tuple[Request, Answer]] = field(default_factory=asyncio.Queue)
    served: int = 0


@dataclass(slots=True)
class Desks:
    """Everybody who serves; shared by all wires of a memory server."""

    open: list[_Desk] = field(default_factory=list)

    def for_subject(self, subject: str) -> list[_Desk]:
        """Give one desk a queue group, the one that served least."""
        chosen: dict[str, _Desk] = {}
        for desk in self.open:
            if matches(desk.subject, subject):
                other = chosen.get(desk.queue)
                if other is None or desk.served < other.served:
                    chosen[desk.queue] = desk
        return list(chosen.values())


class MemoryWire:
    """`ports.Wire` on a memory server. `sender` is the device key that the server would attest."""

    def __init__(self, server: MemoryServer, desks: Desks, sender: str | None = None) -> None:
        self._server = server
        self._desks = desks
        self._sender = sender

    async def request(self, subject: str, data: bytes, timeout_s: float) -> bytes:
        """Ask once; see `ports.Wire`."""
        desks = [] if self._server.away else self._desks.for_subject(subject)
        if not desks:
            raise NoAnswer(f"nobody answers on {subject}")
        answer: Answer = asyncio.get_running_loop().create_future()
        for desk in desks:
            desk.served += 1
            desk.waiting.put_nowait((Request(subject, data, {}, self._sender), answer))
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError as error:
            raise NoAnswer(f"no answer on {subject} within {timeout_s} s") from error

    async def serve(
        self, subject: str, queue: str, handler: Callable[[Request], Awaitable[bytes | None]]
    ) -> None:
        """Answer requests until cancelled; see `ports.Wire`."""
        slots = asyncio.Semaphore(SERVED_AT_ONCE_MAX)

        async def work(request: Request, answer: Answer) -> None:
            try:
                data = await answered(handler, request)
                if data is not None and not answer.done() and not self._server.away:
                    answer.set_result(data)
            finally:
                slots.release()

        desk = _Desk(subject, queue)
        self._desks.open.append(desk)
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    request, answer = await desk.waiting.get()
                    await slots.acquire()
                    tasks.create_task(work(request, answer))
        finally:
            self._desks.open.remove(desk)

    async def listen(self, subject: str) -> AsyncIterator[StoredMessage]:
        """Yield a republished feed; see `ports.Wire`."""
        waiting: asyncio.Queue[StoredMessage] = asyncio.Queue()
        feed = (subject, waiting.put_nowait)
        self._server.feeds.append(feed)
        try:
            while True:
                yield await waiting.get()
        finally:
            self._server.feeds.remove(feed)

    async def returned(self) -> None:
        """Wait for the next return of the server; see `ports.Wire`."""
        await self._server.returned()
