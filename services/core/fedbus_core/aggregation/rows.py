"""Rules that compare updates with one another: every update is read again, a block of all at a time.

Memory is clients x block, whatever the model. The result depends neither on the order of the updates
(rows are sorted by client) nor on the size of blocks: a coordinate is combined for itself, and distances
are sums over tiles of `TILE_ITEMS` elements counted from each tensor's first. In a tile the squared
differences are added by halving (the first half plus the second, zeros behind the end), and the tiles
one after the other, tensors in the order of their names, all in float64.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fedbus_core.aggregation.exact import write_pieces
from fedbus_core.aggregation.grid import LARGEST, Grid
from fedbus_core.aggregation.kernels import cast
from fedbus_core.aggregation.loading import Scratch, load
from fedbus_core.aggregation.rules.rule import Combine, Rows, RowsRule
from fedbus_core.aggregation.stepping import bounded
from fedbus_core.aggregation.tensorfile import DTYPES, Array, Layout, TensorSpec, encode_header

TILE_ITEMS = 4_096
"""Fixed with the rules' versions: it decides in which order squares are added."""
BLOCK_BYTES_MAX = 32 * 1024 * 1024
"""What the rows of one block take at most in float64; a block has a tile at least."""
TILES_MAX = 16


class Source(Protocol):
    """Random access to an update's bytes, which were checked."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Read just so many bytes."""
        ...


@dataclass(frozen=True, slots=True)
class Row:
    """One update: its layout and where its bytes are."""

    layout: Layout
    source: Source


def combine(rule: RowsRule, grid: Grid, rows: Sequence[Row], tiles: int | None = None) -> bytearray:
    """Give the new model's canonical file. `rows` are sorted by client and passed `check_update`.

    `tiles` is the size of a block in tiles; it changes no bit. Raises `ValueError` for too few rows.
    """
    if len(rows) < rule.updates_min:
        raise ValueError(f"{rule.id} needs {rule.updates_min} updates, there are {len(rows)}")
    items = TILE_ITEMS * (tiles or _tiles(len(rows)))
    distances = _distances(grid, rows, items) if rule.needs_distances else None
    planned = rule.plan(len(rows), distances)
    header = encode_header(grid.layout.fields)
    out = bytearray(len(header) + sum(spec.nbytes for spec in grid.layout.tensors))
    write_pieces(_pieces(header, grid, planned, rows, items), out)
    return out


def _tiles(count: int) -> int:
    return max(1, min(TILES_MAX, BLOCK_BYTES_MAX // (8 * TILE_ITEMS * count)))


def _pieces(
    header: bytes, grid: Grid, planned: Combine, rows: Sequence[Row], items: int
) -> Iterator[bytes]:
    scratch = Scratch()
    yield header
    for place, spec in enumerate(grid.layout.tensors):
        for start in range(0, spec.items, items):
            stop = min(start + items, spec.items)
            if spec.dtype in LARGEST:
                values = planned(_floats(rows, place, start, stop, scratch))
                yield cast(bounded(values, spec.dtype), spec.dtype, scratch)
            else:
                # Whole numbers and masks: the lower middle value, which is one that somebody sent.
                raw = np.stack([_read(row, place, start, stop) for row in rows])
                raw.sort(axis=0)
                yield raw[(len(rows) - 1) // 2].tobytes()


def _distances(grid: Grid, rows: Sequence[Row], items: int) -> Rows:
    """Give the squared distances between each two updates, over all float tensors."""
    count = len(rows)
    found = np.zeros((count, count))
    scratch = Scratch()
    for place, spec in enumerate(grid.layout.tensors):
        if spec.dtype not in LARGEST:
            continue
        for start in range(0, spec.items, items):
            block = _floats(rows, place, start, min(start + items, spec.items), scratch)
            for first in range(0, block.shape[1], TILE_ITEMS):
                _add_tile(found, block[:, first : first + TILE_ITEMS])
    return found


def _add_tile(found: Rows, tile: Rows) -> None:
    width = tile.shape[1]
    for place in range(len(tile) - 1):
        squares = np.zeros((len(tile) - place - 1, TILE_ITEMS))
        part = squares[:, :width]
        np.subtract(tile[place + 1 :], tile[place], out=part)
        np.multiply(part, part, out=part)
        size = TILE_ITEMS
        while size > 1:
            size //= 2
            np.add(squares[:, :size], squares[:, size : 2 * size], out=squares[:, :size])
        np.add(found[place, place + 1 :], squares[:, 0], out=found[place, place + 1 :])
        found[place + 1 :, place] = found[place, place + 1 :]


def _floats(rows: Sequence[Row], place: int, start: int, stop: int, scratch: Scratch) -> Rows:
    block = np.empty((len(rows), stop - start))
    for row, values in zip(rows, block, strict=True):
        dtype = row.layout.tensors[place].dtype
        np.copyto(values, load(_read(row, place, start, stop), dtype, scratch))
    # Values that are equal become equal bits: -0.0 is gone.
    return np.add(block, np.float64(0.0), out=block)


def _read(row: Row, place: int, start: int, stop: int) -> Array:
    spec: TensorSpec = row.layout.tensors[place]
    kind = np.dtype(np.uint8) if spec.dtype == "BOOL" else DTYPES[spec.dtype]
    length = (stop - start) * kind.itemsize
    data = row.source.read_at(spec.start + start * kind.itemsize, length)
    return np.frombuffer(data, kind)
