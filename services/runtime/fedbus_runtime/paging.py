"""All messages of a subject, read a bounded number at a time."""

from collections.abc import AsyncGenerator

from fedbus_schemas.streams import Stream

from fedbus_runtime.ports import StoredMessage, Streams


async def in_pages(
    streams: Streams, stream: Stream, subject: str, *, at_once: int, after: int = 0
) -> AsyncGenerator[StoredMessage, None]:
    """Yield the messages with a higher sequence than `after`, in order. Raises `BusAway`."""
    while True:
        page = await streams.read(stream, subject, after=after, limit=at_once)
        for message in page:
            yield message
        if len(page) < at_once:
            return
        after = page[-1].sequence
