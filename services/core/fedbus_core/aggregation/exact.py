"""The exact weighted mean, rule `mean/1`: sums that do not depend on order, grouping or machine.

Every update becomes whole numbers on a grid that is fixed before the round, so adding is associative:
any order, any batching and any tree of partials give the same bytes, and an update can be taken off
again without a trace. The accumulator holds two models' worth of memory, whatever the number of
updates, apart from integer tensors, whose distinct values are kept (`COUNTER_BYTES_MAX`).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from fedbus_core.aggregation import partials
from fedbus_core.aggregation.counters import Counters
from fedbus_core.aggregation.grid import MEAN_VERSION as MEAN_VERSION
from fedbus_core.aggregation.grid import NO_EXPONENT as NO_EXPONENT
from fedbus_core.aggregation.grid import Grid as Grid
from fedbus_core.aggregation.grid import Kind as Kind
from fedbus_core.aggregation.grid import Numbers as Numbers
from fedbus_core.aggregation.grid import exponents_of as exponents_of
from fedbus_core.aggregation.kernels import LIMBS, Sums, Term, finish, fold, mean_block, settle
from fedbus_core.aggregation.loading import Floats, Scratch
from fedbus_core.aggregation.tensorfile import (
    DTYPES,
    Array,
    Buffer,
    Layout,
    TensorFileError,
    TensorSpec,
    encode_header,
    flat,
    parse_layout,
)

Update: TypeAlias = Mapping[str, Array] | Buffer
"""A whole tensor file, or its tensors by name as `tensorfile.views` gives them."""


class Accumulator:
    """The running sum of a round's updates on one grid. One thread at a time.

    Updates must have passed `checks.check_update` against the same grid: values are not looked at
    again. What is impossible after those checks raises `ValueError` and changes nothing.
    """

    __slots__ = ("_counters", "_lifts", "_scratch", "_sums", "count", "grid", "weight")

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.weight = 0
        """N, the sum of the weights."""
        self.count = 0
        """K, the number of updates."""
        self._sums: list[Sums] = [
            tuple(np.zeros(plan.spec.items, np.int64) for _ in range(LIMBS[plan.kind]))
            for plan in grid.plans
        ]
        self._counters = Counters(
            plan.spec.name for plan in grid.plans if plan.kind is Kind.COUNTER
        )
        self._lifts = 0
        self._scratch = Scratch()

    def add(self, update: Update, weight: int) -> None:
        """Add one update. `weight` is a whole number 1..2^weight_bits."""
        self.add_all([(update, weight)])

    def add_all(self, updates: Sequence[tuple[Update, int]]) -> None:
        """Add all waiting updates in one pass over the sums, which is faster than one by one."""
        self._fold(updates, undo=False)

    def subtract(self, update: Update, weight: int) -> None:
        """Take one update off that was added with this weight before, here or in what was merged."""
        self._fold([(update, weight)], undo=True)

    def merge(self, other: "Accumulator") -> None:
        """Add all that another accumulator of the same grid holds; `other` stays as it is."""
        if other.grid != self.grid:
            raise ValueError("partials of different grids cannot be merged")
        self._check_count(self.count + other.count)
        self._counters.merge(other._counters)
        for sums, more in zip(self._sums, other._sums, strict=True):
            for limb, addend in zip(sums, more, strict=True):
                np.add(limb, addend, out=limb)
        self.count += other.count
        self.weight += other.weight
        self._lifts += other._lifts

    def mean(self, previous: Buffer | None = None) -> Iterator[bytes]:
        """Give the bytes of the new model's canonical file, in pieces of a block at most.

        `previous` is the round's base model, a whole file; only a tie in a BOOL tensor needs it.
        Raises `ValueError` for an empty sum and for a tie without `previous`.
        """
        before = {} if previous is None else self.columns(previous)
        self.settle()
        yield encode_header(self.grid.layout.fields)
        for place, plan in enumerate(self.grid.plans):
            yield from self.mean_tensor(place, before.get(plan.spec.name))

    def settle(self) -> None:
        """Make the sums ready to be read. Raises `ValueError` for an empty one."""
        if self.count == 0:
            raise ValueError("the mean of no updates does not exist")
        self._settle()

    def mean_tensor(self, place: int, previous: Array | None) -> Iterator[bytes]:
        """Give the bytes of the mean of the tensor at this place of the layout, once settled."""
        plan = self.grid.plans[place]
        if plan.kind is Kind.COUNTER:
            yield self._counters.largest(plan.spec)
        else:
            yield from finish(plan, self._sums[place], self.weight, previous, self._scratch)

    def mean_block(self, place: int, start: int, stop: int) -> Floats:
        """Give a part of a float tensor's mean, once settled, not yet rounded to the tensor's type.

        At most a block; the memory is used again by the next call.
        """
        sums = tuple(limb[start:stop] for limb in self._sums[place])
        plan = self.grid.plans[place]
        return mean_block(plan, sums, np.float64(self.weight), self._scratch)

    @property
    def mean_size(self) -> int:
        """Length in bytes of the file that `mean` gives."""
        header = encode_header(self.grid.layout.fields)
        return len(header) + sum(spec.nbytes for spec in self.grid.layout.tensors)

    def mean_into(self, out: bytearray | memoryview, previous: Buffer | None = None) -> int:
        """Write the new model's file to the beginning of `out`, which needs `mean_size` bytes.

        Returns the number of bytes written. Raises as `mean`, and `ValueError` for too short an `out`.
        """
        size = self.mean_size
        if len(out) < size:
            raise ValueError(f"the model needs {size} bytes, there are {len(out)}")
        return write_pieces(self.mean(previous), out)

    def parts(self) -> list[Buffer]:
        """Give the canonical partial as buffers to be written one after another.

        They share memory with the accumulator: write them before anything else is added.
        """
        self._settle()
        return partials.parts(self.grid, self._sums, self._counters, self.count, self.weight)

    def to_bytes(self) -> bytes:
        """Give the canonical partial: equal sets of updates give equal bytes."""
        return b"".join(self.parts())

    @classmethod
    def from_bytes(cls, grid: Grid, data: Buffer) -> "Accumulator":
        """Read a partial. Raises `TensorFileError` for bytes that are not a partial of this grid."""
        loaded = cls(grid)
        loaded.count, loaded.weight = partials.read_into(grid, loaded._sums, loaded._counters, data)
        return loaded

    def _fold(self, updates: Sequence[tuple[Update, int]], *, undo: bool) -> None:
        weights = [weight for _, weight in updates]
        for weight in weights:
            self._check_weight(weight)
        sign = -1 if undo else 1
        count = self.count + sign * len(updates)
        total = self.weight + sign * sum(weights)
        self._check_count(count)
        if not count <= total <= count * self.grid.numbers.weight_max:
            raise ValueError("this weight was never added")
        columns = [self.columns(update) for update, _ in updates]
        if undo:
            self._counters.remove(columns)
        else:
            self._counters.add(columns)
        for plan, sums in zip(self.grid.plans, self._sums, strict=True):
            if plan.kind is Kind.COUNTER:
                continue
            terms = [
                Term(column[plan.spec.name], weight)
                for column, weight in zip(columns, weights, strict=True)
            ]
            fold(plan, sums, terms, self._scratch, undo=undo)
        self.count, self.weight = count, total
        self._lifts += sign * len(updates)

    def _check_weight(self, weight: int) -> None:
        most = self.grid.numbers.weight_max
        if type(weight) is not int or not 1 <= weight <= most:
            raise ValueError(f"a weight is a whole number 1..{most}, not {weight!r}")

    def _check_count(self, count: int) -> None:
        most = self.grid.numbers.count_max
        if not 0 <= count <= most:
            raise ValueError(f"an aggregate holds 0..{most} updates, not {count}")

    def columns(self, update: Update) -> dict[str, Array]:
        """Find every tensor's elements, flat and raw, after a check that they fit the grid."""
        layout = self.grid.layout
        if isinstance(update, Mapping):
            if update.keys() != {spec.name for spec in layout.tensors}:
                raise ValueError("the update's tensors are not those of the grid: check it first")
            return {spec.name: _flattened(spec, update[spec.name]) for spec in layout.tensors}
        theirs = _layout_of(update)
        if not theirs.same_as(layout):
            raise ValueError("the update's layout is not the grid's: check it first")
        return {spec.name: flat(spec, update) for spec in theirs.tensors}

    def _settle(self) -> None:
        if self._lifts:
            for plan, sums in zip(self.grid.plans, self._sums, strict=True):
                settle(plan, sums, self._lifts)
        self._lifts = 0


def write_pieces(pieces: Iterator[bytes], out: bytearray | memoryview) -> int:
    """Write pieces one after another to the beginning of `out`; give the number of bytes."""
    place = 0
    with memoryview(out) as target:
        for piece in pieces:
            target[place : place + len(piece)] = piece
            place += len(piece)
    return place


def _layout_of(update: Buffer) -> Layout:
    try:
        return parse_layout(update, len(update))
    except TensorFileError as error:
        raise ValueError(f"the update is not a tensor file: {error}") from error


def _flattened(spec: TensorSpec, tensor: Array) -> Array:
    if tensor.shape != spec.shape or tensor.dtype != DTYPES[spec.dtype]:
        raise ValueError(f"tensor {spec.name!r} is not {spec.dtype} {spec.shape}: check it first")
    values = tensor.reshape(-1)
    return values.view(np.uint8) if spec.dtype == "BOOL" else values
