"""The object store with updates that came in pieces (`fedbus_schemas.pieces`): read like any other blob.

A key without a blob is looked up among the pieces. They are no blob before they are all there.
"""

import asyncio
import hashlib
from collections import OrderedDict, defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from fedbus_schemas import keys

from fedbus_runtime.errors import BlobCorrupt, BlobMissing
from fedbus_runtime.ports import Blobs

REMEMBERED_MAX = 1024
"""Blobs of which is remembered what pieces they have; each is read for one round only."""


@dataclass(frozen=True, slots=True)
class StoredPiece:
    """A piece that is there, of an update of `size` bytes."""

    key: str
    size: int
    start: int
    length: int

    @property
    def end(self) -> int:
        """Where the next piece begins."""
        return self.start + self.length


def read_pieces(found: Iterable[str]) -> list[StoredPiece]:
    """Read what the keys of pieces say; other keys are left out."""
    pieces = []
    for key in found:
        numbers = key.split("/")[-2].split("-")
        if len(numbers) == 3 and all(number.isascii() and number.isdigit() for number in numbers):
            size, start, length = map(int, numbers)
            if length > 0:
                pieces.append(StoredPiece(key, size, start, length))
    return sorted(pieces, key=lambda piece: (piece.start, -piece.length, piece.key))


def from_start(pieces: Sequence[StoredPiece], size: int) -> list[StoredPiece]:
    """Give the row of pieces that reaches farthest from the beginning without gap or overlap.

    `pieces` are sorted by start. A piece may be there twice, cut in two ways, when the answer to its
    upload was lost.
    """
    before: dict[int, StoredPiece | None] = {0: None}
    for piece in pieces:
        if piece.size == size and piece.start in before and piece.end <= size:
            before.setdefault(piece.end, piece)
    row: list[StoredPiece] = []
    last = before[max(before)]
    while last is not None:
        row.append(last)
        last = before[last.start]
    return row[::-1]


def unfinished(found: Iterable[str]) -> list[list[str]]:
    """Of the keys of pieces, give those of updates that are not all there, each update's by itself."""
    updates: defaultdict[str, list[str]] = defaultdict(list)
    for key in found:
        updates[key.rsplit("/", 2)[0]].append(key)
    return [each for each in updates.values() if not _whole_row(read_pieces(each))]


class PiecedBlobs:
    """`ports.Blobs` over another one, with the updates in pieces."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._known: OrderedDict[str, Sequence[StoredPiece]] = OrderedDict()

    async def put(self, key: str, parts: Sequence[bytes | bytearray | memoryview]) -> None:
        """Store a blob in one; see `ports.Blobs`."""
        await self._blobs.put(key, parts)

    async def get(self, key: str, size_max: int) -> bytearray:
        """Read and check a whole blob; see `ports.Blobs`."""
        if key not in self._known:
            try:
                return await self._blobs.get(key, size_max)
            except BlobMissing:
                pass
        row = await self._row(key)
        size = row[-1].size
        if size > size_max:
            raise BlobCorrupt(f"{key} has {size} bytes, more than {size_max}")
        content = bytearray(size)
        digest = hashlib.sha256()
        for piece in row:
            data = await self._blobs.get_range(piece.key, 0, piece.length)
            if len(data) != piece.length:
                raise BlobCorrupt(f"{piece.key} has {len(data)} bytes")
            await asyncio.to_thread(_place, content, piece.start, data, digest)
        if digest.hexdigest() != key.rpartition("/")[2]:
            raise BlobCorrupt(f"the pieces of {key} hash to {digest.hexdigest()}")
        return content

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        """Read a part, unchecked; see `ports.Blobs`."""
        if key not in self._known:
            try:
                return await self._blobs.get_range(key, start, length)
            except BlobMissing:
                pass
        parts = []
        for piece in await self._row(key):
            first, last = max(start, piece.start), min(start + length, piece.end)
            if first < last:
                part = await self._blobs.get_range(piece.key, first - piece.start, last - first)
                parts.append(part)
        return b"".join(parts)

    async def stream(self, key: str) -> AsyncIterator[bytes]:
        """Yield a blob in small parts, unchecked; see `ports.Blobs`."""
        if key not in self._known and await self._blobs.size(key) is not None:
            async for part in self._blobs.stream(key):
                yield part
            return
        for piece in await self._row(key):
            async for part in self._blobs.stream(piece.key):
                yield part

    async def size(self, key: str) -> int | None:
        """Give a blob's length, None when there is none or not all of it; see `ports.Blobs`."""
        whole = await self._blobs.size(key)
        if whole is not None:
            return whole
        try:
            return (await self._row(key))[-1].size
        except BlobMissing:
            return None

    async def delete(self, keys_: Sequence[str]) -> None:
        """Delete blobs with their pieces; see `ports.Blobs`."""
        pieces: list[str] = []
        for key in keys_:
            self._known.pop(key, None)
            prefix = keys.pieces_of(key)
            if prefix is not None:
                pieces += await self._blobs.list(prefix)
        await self._blobs.delete([*keys_, *pieces])

    async def list(self, prefix: str) -> Sequence[str]:
        """Give the keys under a prefix, each piece by its own; see `ports.Blobs`."""
        return await self._blobs.list(prefix)

    async def written(self, prefix: str) -> Mapping[str, datetime]:
        """Give the keys under a prefix with their times, each piece by its own; see `ports.Blobs`."""
        return await self._blobs.written(prefix)

    async def _row(self, key: str) -> Sequence[StoredPiece]:
        known = self._known.get(key)
        if known is not None:
            return known
        prefix = keys.pieces_of(key)
        pieces = [] if prefix is None else read_pieces(await self._blobs.list(prefix))
        row = _whole_row(pieces)
        if not row:
            raise BlobMissing(key)
        self._known[key] = row
        if len(self._known) > REMEMBERED_MAX:
            self._known.popitem(last=False)
        return row


def _whole_row(pieces: Sequence[StoredPiece]) -> Sequence[StoredPiece]:
    """Give the pieces of a whole update, none if it is not all there."""
    for size in sorted({piece.size for piece in pieces}):
        row = from_start(pieces, size)
        if row and row[-1].end == size:
            return row
    return ()


def _place(content: bytearray, start: int, data: bytes, digest: "hashlib._Hash") -> None:
    content[start : start + len(data)] = data
    digest.update(data)
