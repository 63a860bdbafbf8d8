"""The arithmetic of rule `mean/1`, block by block: terms into integer sums, sums into means.

Only operations that IEEE 754 fixes to the last bit are used, one a line, so every machine gets the
same sums and the same model. The rounding is a bit trick: adding C = 1.5 * 2^(52-s) to a float64 p
with |p * 2^s| <= 2^51 makes the hardware round p to the grid 2^-s (ties to even), and the low bits of
the result *are* the integer; bits(C) is taken off later, once for all terms (`lifts`).
"""

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedbus_core.aggregation.grid import Kind, Plan
from fedbus_core.aggregation.loading import BLOCK_ITEMS, Floats, Scratch, load
from fedbus_core.aggregation.tensorfile import DTYPES, Array

Sums: TypeAlias = tuple[NDArray[np.int64], ...]
"""The integer sums of one tensor, one array a limb, flat: exact and bool have 1, wide 2, counters 0."""

LIMBS = {Kind.EXACT: 1, Kind.WIDE: 2, Kind.COUNTER: 0, Kind.BOOL: 1}


@dataclass(frozen=True, slots=True)
class Term:
    """One update's share of a tensor: its elements, flat and raw, and the update's weight."""

    values: Array
    weight: int


def fold(plan: Plan, sums: Sums, terms: Sequence[Term], scratch: Scratch, *, undo: bool) -> None:
    """Add every term to the sums, or take it off again. The values must have passed the checks.

    All terms are folded into a block before the next block is touched, so a block of sums is read
    and written once for as many updates as are waiting.
    """
    combine = np.subtract if undo else np.add
    kernel = {Kind.EXACT: _fold_exact, Kind.WIDE: _fold_wide, Kind.BOOL: _fold_votes}[plan.kind]
    for start in range(0, plan.spec.items, BLOCK_ITEMS):
        stop = start + BLOCK_ITEMS
        blocks = tuple(limb[start:stop] for limb in sums)
        for term in terms:
            kernel(plan, blocks, term.values[start:stop], term.weight, scratch, combine)


def settle(plan: Plan, sums: Sums, lifts: int) -> None:
    """Take the bits of C off the sums, in place, as often as terms were added (modulo 2^64)."""
    for limb, shift in zip(sums, plan.shifts, strict=False):
        lifted = lifts * struct.unpack("<q", struct.pack("<d", _lift(shift)))[0]
        wrapped = np.int64((lifted + 2**63) % 2**64 - 2**63)
        np.subtract(limb, wrapped, out=limb)


def finish(
    plan: Plan, sums: Sums, weight: int, previous: Array | None, scratch: Scratch
) -> Iterator[bytes]:
    """Give the mean of a tensor as little-endian bytes, block by block, from settled sums.

    Every sum becomes a float64, is divided by the total weight and scaled, kept inside the range that
    every term was in, and cast once. `previous` decides ties of a BOOL tensor. A zero comes out as
    +0.0. Raises `ValueError` for a tie without `previous`.
    """
    for start in range(0, plan.spec.items, BLOCK_ITEMS):
        stop = start + BLOCK_ITEMS
        blocks = tuple(limb[start:stop] for limb in sums)
        if plan.kind is Kind.BOOL:
            yield _majority(blocks[0], weight, None if previous is None else previous[start:stop])
        else:
            yield cast(
                mean_block(plan, blocks, np.float64(weight), scratch), plan.spec.dtype, scratch
            )


def _lift(shift: int) -> float:
    return math.ldexp(1.5, 52 - shift)


def _weighted(plan: Plan, block: Array, weight: int, scratch: Scratch) -> Floats:
    values = load(block, plan.spec.dtype, scratch)
    if weight != 1:
        # Exact for up to 24 bits of value: 24 + weight_bits <= 53. For float64 it rounds once.
        np.multiply(values, np.float64(weight), out=values)
    return values


def _fold_exact(
    plan: Plan, sums: Sums, block: Array, weight: int, scratch: Scratch, combine: np.ufunc
) -> None:
    values = _weighted(plan, block, weight, scratch)
    np.add(values, np.float64(_lift(plan.shifts[0])), out=values)
    combine(sums[0], values.view(np.int64), out=sums[0])


def _fold_wide(
    plan: Plan, sums: Sums, block: Array, weight: int, scratch: Scratch, combine: np.ufunc
) -> None:
    values = _weighted(plan, block, weight, scratch)
    coarse = scratch.second[: block.size]
    lift = np.float64(_lift(plan.shifts[0]))
    np.add(values, lift, out=coarse)
    combine(sums[0], coarse.view(np.int64), out=sums[0])
    # What the first limb rounded away is exact in float64 and goes to the second one.
    np.subtract(coarse, lift, out=coarse)
    np.subtract(values, coarse, out=values)
    np.add(values, np.float64(_lift(plan.shifts[1])), out=values)
    combine(sums[1], values.view(np.int64), out=sums[1])


def _fold_votes(
    plan: Plan, sums: Sums, block: Array, weight: int, scratch: Scratch, combine: np.ufunc
) -> None:
    votes = scratch.values[: block.size].view(np.int64)
    np.copyto(votes, block)
    np.multiply(votes, np.int64(weight), out=votes)
    combine(sums[0], votes, out=sums[0])


def _majority(votes: NDArray[np.int64], weight: int, previous: Array | None) -> bytes:
    twice = votes * np.int64(2)
    won: NDArray[np.bool_] = np.greater(twice, np.int64(weight))
    tied = np.equal(twice, np.int64(weight))
    if tied.any():
        if previous is None:
            raise ValueError("a BOOL tensor has a tie: give the previous model, which decides it")
        np.logical_or(won, np.logical_and(tied, np.not_equal(previous, np.uint8(0))), out=won)
    return won.tobytes()


def mean_block(plan: Plan, sums: Sums, weight: np.float64, scratch: Scratch) -> Floats:
    """Give the mean of a block of a float tensor in `scratch.values`, not yet rounded to its type."""
    values = scratch.values[: sums[0].size]
    np.copyto(values, sums[0])
    if plan.kind is Kind.EXACT:
        np.divide(values, weight, out=values)
        np.multiply(values, np.float64(math.ldexp(1.0, -plan.shifts[0])), out=values)
    else:
        fine = scratch.second[: sums[1].size]
        np.copyto(fine, sums[1])
        np.multiply(values, np.float64(math.ldexp(1.0, -plan.shifts[0])), out=values)
        np.multiply(fine, np.float64(math.ldexp(1.0, -plan.shifts[1])), out=fine)
        np.add(values, fine, out=values)
        np.divide(values, weight, out=values)
    # A mean lies inside the range of its terms; on a coarse grid rounding could leave it, even to inf.
    np.minimum(values, np.float64(plan.limit), out=values)
    np.maximum(values, np.float64(-plan.limit), out=values)
    np.add(values, np.float64(0.0), out=values)
    return values


def cast(values: Floats, dtype: str, scratch: Scratch) -> bytes:
    """Round finite values within the type's range to it, once; little-endian bytes."""
    if dtype == "BF16":
        return bfloat16_bits(values, scratch)
    # numpy reports a subnormal result of a cast as underflow; the result is right all the same.
    with np.errstate(under="ignore"):
        return values.astype(DTYPES[dtype]).tobytes()


def bfloat16_bits(values: Floats, scratch: Scratch) -> bytes:
    """Round finite float64 values within range to bfloat16, to nearest even, with one rounding.

    The way leads over float32. Where that step lands exactly between two bfloat16 values without
    having been exact, it is moved one float32 towards the true value, so that nothing rounds twice.
    """
    narrow = scratch.bits[: values.size].view(np.float32)
    with np.errstate(under="ignore"):
        np.copyto(narrow, values, casting="same_kind")
    bits = scratch.bits[: values.size]
    middle = np.equal(bits & np.uint32(0xFFFF), np.uint32(0x8000))
    magnitude, exact = np.abs(narrow.astype(np.float64)), np.abs(values)
    too_large = middle & np.greater(magnitude, exact)
    too_small = middle & np.less(magnitude, exact)
    np.subtract(bits, too_large.astype(np.uint32), out=bits)
    np.add(bits, too_small.astype(np.uint32), out=bits)
    odd = np.right_shift(bits, np.uint32(16)) & np.uint32(1)
    np.add(bits, np.uint32(0x7FFF), out=bits)
    np.add(bits, odd, out=bits)
    np.right_shift(bits, np.uint32(16), out=bits)
    return bits.astype("<u2").tobytes()
