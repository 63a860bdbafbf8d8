"""The object store with a stopwatch: how long its calls take, how they end, how much they move."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from time import monotonic

from fedbus_runtime.connections import Connections
from fedbus_runtime.errors import RuntimeFault
from fedbus_runtime.metrics import STORE_BYTES, STORE_SECONDS
from fedbus_runtime.ports import Blobs


def measured(ports: Connections) -> Connections:
    """Give the ports with a stopwatch at the object store."""
    return replace(ports, blobs=_MeasuredBlobs(ports.blobs))


class _MeasuredBlobs:
    """`ports.Blobs` that counts."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    async def put(self, key: str, parts: Sequence[bytes | bytearray | memoryview]) -> None:
        """Store; see `ports.Blobs`."""
        with _measured("put"):
            await self._blobs.put(key, parts)
        STORE_BYTES.add(sum(memoryview(part).nbytes for part in parts), method="put")

    async def get(self, key: str, size_max: int) -> bytearray:
        """Read; see `ports.Blobs`."""
        with _measured("get"):
            data = await self._blobs.get(key, size_max)
        STORE_BYTES.add(len(data), method="get")
        return data

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        """Read a part; see `ports.Blobs`."""
        with _measured("get_range"):
            data = await self._blobs.get_range(key, start, length)
        STORE_BYTES.add(len(data), method="get_range")
        return data

    async def stream(self, key: str) -> AsyncIterator[bytes]:
        """Read in pieces; see `ports.Blobs`."""
        async for piece in self._blobs.stream(key):
            STORE_BYTES.add(len(piece), method="stream")
            yield piece

    async def size(self, key: str) -> int | None:
        """Look; see `ports.Blobs`."""
        with _measured("size"):
            return await self._blobs.size(key)

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete; see `ports.Blobs`."""
        with _measured("delete"):
            await self._blobs.delete(keys)

    async def list(self, prefix: str) -> Sequence[str]:
        """List; see `ports.Blobs`."""
        with _measured("list"):
            return await self._blobs.list(prefix)

    async def written(self, prefix: str) -> Mapping[str, datetime]:
        """List with times; see `ports.Blobs`."""
        with _measured("list"):
            return await self._blobs.written(prefix)


@contextmanager
def _measured(method: str) -> Iterator[None]:
    started, outcome = monotonic(), "ok"
    try:
        yield
    except RuntimeFault as fault:
        outcome = type(fault).__name__
        raise
    finally:
        STORE_SECONDS.observe(monotonic() - started, method=method, outcome=outcome)
