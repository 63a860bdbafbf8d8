"""What is not stored, on NATS: requests, answers and live feeds.

`serve` takes requests many at a time, within a bound; what does not fit waits in the library's bounded
queue, and what does not fit there is dropped: whoever asks, repeats. `Nats-Request-Info` is set by
the server for requests that cross accounts, and a forged one is overwritten.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import nats.errors
from nats.aio.msg import Msg

from fedbus_runtime.consumer import answered
from fedbus_runtime.errors import BusAway, NoAnswer
from fedbus_runtime.nats_connection import NatsConnection, own_headers, stored
from fedbus_runtime.ports import Request, StoredMessage

SERVED_AT_ONCE_MAX = 64
WAITING_MAX = 10_000
WAITING_BYTES_MAX = 64 * 1024 * 1024
FEED_WAITING_MAX = 50_000
DRAIN_TIMEOUT_S = 5.0


class NatsWire:
    """`ports.Wire` on a NATS connection."""

    def __init__(self, connection: NatsConnection) -> None:
        self._connection = connection

    async def request(self, subject: str, data: bytes, timeout_s: float) -> bytes:
        """Ask once; see `ports.Wire`."""
        try:
            answer = await self._connection.ask(subject, data, timeout_s=timeout_s)
        except BusAway as error:
            raise NoAnswer(str(error)) from error
        return answer.data

    async def serve(
        self, subject: str, queue: str, handler: Callable[[Request], Awaitable[bytes | None]]
    ) -> None:
        """Answer requests until cancelled; see `ports.Wire`."""
        slots = asyncio.Semaphore(SERVED_AT_ONCE_MAX)

        async def answer(message: Msg) -> None:
            try:
                data = await answered(handler, _request(message))
                if data is not None:
                    await self._connection.send(message.reply, data)
            except BusAway:
                pass  # the connection broke: the asker has no use for an answer either
            finally:
                slots.release()

        async with asyncio.TaskGroup() as tasks:

            async def take(message: Msg) -> None:
                if message.reply:
                    await slots.acquire()
                    tasks.create_task(answer(message))

            subscription = await self._connection.client.subscribe(
                subject,
                queue=queue,
                cb=take,
                pending_msgs_limit=WAITING_MAX,
                pending_bytes_limit=WAITING_BYTES_MAX,
            )
            try:
                await self._connection.wait_closed()
                raise BusAway("the connection was closed")
            finally:
                await _leave(subscription.unsubscribe)
                await _drain(slots)

    async def listen(self, subject: str) -> AsyncIterator[StoredMessage]:
        """Yield a republished feed; see `ports.Wire`."""
        waiting: asyncio.Queue[Msg] = asyncio.Queue(1)
        subscription = await self._connection.client.subscribe(
            subject,
            cb=waiting.put,
            pending_msgs_limit=FEED_WAITING_MAX,
            pending_bytes_limit=WAITING_BYTES_MAX,
        )
        try:
            while True:
                message = await waiting.get()
                if "Nats-Sequence" in (message.headers or {}):
                    yield stored(message)
        finally:
            await _leave(subscription.unsubscribe)

    async def returned(self) -> None:
        """Wait for the next return of the server; see `ports.Wire`."""
        await self._connection.wait_returned()


async def _leave(unsubscribe: Callable[[], Awaitable[None]]) -> None:
    try:
        await unsubscribe()
    except nats.errors.Error:
        return  # the connection is closed, and the subscription with it


async def _drain(slots: asyncio.Semaphore) -> None:
    """Let the running handlers finish, within a bound."""
    try:
        async with asyncio.timeout(DRAIN_TIMEOUT_S):
            for _ in range(SERVED_AT_ONCE_MAX):
                await slots.acquire()
    except TimeoutError:
        return


def _request(message: Msg) -> Request:
    return Request(
        subject=message.subject,
        data=message.data,
        headers=own_headers(message.headers),
        sender=_sender(message),
    )


def _sender(message: Msg) -> str | None:
    """Read who asks from what the server wrote; None when the request did not cross accounts."""
    text = (message.headers or {}).get("Nats-Request-Info")
    if text is None:
        return None
    try:
        content: object = json.loads(text)
    except ValueError:
        return None
    user = content.get("user") if isinstance(content, dict) else None
    return user if isinstance(user, str) else None
