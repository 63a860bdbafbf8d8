"""Updates that came in pieces: over memory and over SeaweedFS they read like any other blob."""

import hashlib
import itertools
import os
from collections.abc import Sequence

import pytest
from fedbus_runtime.errors import BlobCorrupt, BlobMissing
from fedbus_runtime.pieced_blobs import PiecedBlobs, from_start, read_pieces, unfinished
from fedbus_schemas import keys
from hypothesis import given
from hypothesis import strategies as st

from tests.worlds import StoreWorld

CLIENT = "c" + "a" * 16
CUTS = (0, 300_000, 700_000, 1_500_000)


class Upload:
    """An update, and the pieces of it that are put into the store."""

    def __init__(self, store: StoreWorld) -> None:
        self.inner = store.blobs
        self.blobs = PiecedBlobs(store.blobs)
        self.data = os.urandom(CUTS[-1])
        digest = hashlib.sha256(self.data).hexdigest()
        self.key = keys.update(store.project, CLIENT, digest)
        self.prefix = keys.pieces(store.project, CLIENT, digest)

    async def put(self, start: int, end: int, *, other: bytes | None = None) -> None:
        data = self.data[start:end] if other is None else other
        digest = hashlib.sha256(data).hexdigest()
        key = keys.piece(self.prefix, len(self.data), start, len(data), digest)
        await self.inner.put(key, [data])

    async def put_all(self) -> None:
        for start, end in itertools.pairwise(CUTS):
            await self.put(start, end)


async def test_all_pieces_together_are_the_blob(store: StoreWorld) -> None:
    upload = Upload(store)
    await upload.put_all()
    size = len(upload.data)
    for blobs in (upload.blobs, PiecedBlobs(store.blobs)):
        assert await blobs.size(upload.key) == size
        assert await blobs.get(upload.key, size) == upload.data
        assert b"".join([part async for part in blobs.stream(upload.key)]) == upload.data
        for start, length in ((0, 10), (299_990, 20), (250_000, 600_000), (size - 5, 100)):
            part = await blobs.get_range(upload.key, start, length)
            assert part == upload.data[start : start + length]
    with pytest.raises(BlobCorrupt, match="more than"):
        await upload.blobs.get(upload.key, size - 1)


async def test_while_a_piece_is_missing_there_is_no_blob(store: StoreWorld) -> None:
    upload = Upload(store)
    await upload.put(0, 300_000)
    await upload.put(700_000, len(upload.data))
    assert await upload.blobs.size(upload.key) is None
    for reading in (
        upload.blobs.get(upload.key, 10**9),
        upload.blobs.get_range(upload.key, 0, 10),
        anext(upload.blobs.stream(upload.key)),
    ):
        with pytest.raises(BlobMissing):
            await reading
    await upload.put(300_000, 700_000)
    assert await upload.blobs.get(upload.key, 10**9) == upload.data


async def test_pieces_of_something_else_are_found_out(store: StoreWorld) -> None:
    upload = Upload(store)
    await upload.put(0, 700_000)
    await upload.put(700_000, len(upload.data), other=bytes(len(upload.data) - 700_000))
    with pytest.raises(BlobCorrupt, match="hash to"):
        await upload.blobs.get(upload.key, 10**9)


async def test_a_blob_goes_with_its_pieces(store: StoreWorld) -> None:
    upload = Upload(store)
    await upload.put_all()
    assert await upload.blobs.get(upload.key, 10**9) == upload.data
    await upload.blobs.delete([upload.key])
    assert await upload.blobs.list(f"{store.project}/") == []
    with pytest.raises(BlobMissing):
        await upload.blobs.get(upload.key, 10**9)


async def test_what_came_in_one_is_read_in_one(store: StoreWorld) -> None:
    upload = Upload(store)
    await upload.blobs.put(upload.key, [upload.data])
    assert await upload.blobs.size(upload.key) == len(upload.data)
    assert await upload.blobs.get(upload.key, 10**9) == upload.data
    assert await upload.blobs.get_range(upload.key, 5, 5) == upload.data[5:10]
    assert b"".join([part async for part in upload.blobs.stream(upload.key)]) == upload.data
    assert await upload.blobs.size(keys.model(store.project, "0" * 64)) is None


def test_only_what_is_not_all_there_is_unfinished() -> None:
    whole = [key.replace("0" * 64, "a" * 64) for key in found([(0, 60), (60, 40), (0, 50)])]
    half = [key.replace("0" * 64, "b" * 64) for key in found([(0, 60), (70, 30)])]
    assert unfinished([*whole, *half]) == [half]
    assert unfinished([]) == []


def found(cuts: Sequence[tuple[int, int]], size: int = 100) -> list[str]:
    prefix = keys.pieces("p", CLIENT, "0" * 64)
    return [keys.piece(prefix, size, start, length, "1" * 64) for start, length in cuts]


def test_a_row_of_pieces_may_be_cut_in_two_ways() -> None:
    # The answer to 0..50 was lost, so that the client went on in smaller pieces.
    pieces = read_pieces(found([(0, 50), (0, 20), (20, 20), (40, 20), (60, 40)]))
    row = from_start(pieces, 100)
    assert [(piece.start, piece.end) for piece in row] == [(0, 20), (20, 40), (40, 60), (60, 100)]
    assert from_start(pieces, 99) == []
    assert read_pieces(["p/pieces/c/d/oops/x", "p/pieces/c/d/1-2-³/x", "x/1-1-0/y"]) == []


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 12)), max_size=40))
def test_a_row_reaches_as_far_as_any(cuts: list[tuple[int, int]]) -> None:
    row = from_start(read_pieces(found(cuts, 40)), 40)
    ends = [0, *(piece.end for piece in row)]
    assert [piece.start for piece in row] == ends[:-1]
    reached = {0}
    for start, length in sorted(cuts):
        if start in reached and start + length <= 40:
            reached.add(start + length)
    assert ends[-1] == max(reached)
