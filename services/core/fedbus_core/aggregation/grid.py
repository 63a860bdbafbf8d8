"""The grid of the exact sums: which whole numbers stand for which real ones, tensor by tensor.

Rule `mean/1`. A grid follows from the base model's layout, one exponent a tensor and the session's
numbers alone, so everyone who knows the round's opening knows it, and no update can move it.
"""

import math
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from fedbus_core.aggregation.loading import BLOCK_ITEMS, Scratch, load
from fedbus_core.aggregation.tensorfile import Buffer, Layout, TensorSpec, flat

MEAN_VERSION = "mean/1"

NO_EXPONENT = 2_000
"""Stands in the list of exponents where a tensor gives no scale: not one of F32, F16 and BF16,
fewer than SMALL_ITEMS elements, or all elements equal. No float64 has this exponent."""

SMALL_ITEMS = 65_536
EXPONENT_MIN, EXPONENT_MAX = -148, 128
WEIGHT_BITS_MAX = 29
COHORT_BITS_MAX = 20
GROWTH_BITS_MAX = 12
WIDE_TOP_BITS = 32

LARGEST = {
    "F64": float(np.finfo(np.float64).max),
    "F32": float(np.finfo(np.float32).max),
    "F16": float(np.finfo(np.float16).max),
    "BF16": float.fromhex("0x1.fep127"),
}
"""The largest finite value of every float type, as a float64."""


class Kind(StrEnum):
    """How a tensor is aggregated."""

    EXACT = "exact"
    WIDE = "wide"
    COUNTER = "counter"
    BOOL = "bool"


@dataclass(frozen=True, slots=True)
class Numbers:
    """The session's settings of the rule; raises `ValueError` for one out of its limits.

    A weight is a whole number 1..2^weight_bits, one aggregate takes at most 2^cohort_bits updates,
    and an update may reach 2^growth_bits times the base's largest value. Tensors named in `wide`
    use two limbs. Since weights add up to 2^(weight_bits + cohort_bits) at most and a term is below
    2^term_bits, no sum leaves 63 bits. The mean's error is at most half a step of the grid, which is
    2^-(term_bits - weight_bits - growth_bits) of the power of two above the base's largest value; a
    quarter float32 ulp of that value with the defaults, at the very limits next to nothing is left.
    """

    weight_bits: int = 20
    cohort_bits: int = 11
    growth_bits: int = 6
    wide: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        limits = (
            ("weight_bits", self.weight_bits, WEIGHT_BITS_MAX),
            ("cohort_bits", self.cohort_bits, COHORT_BITS_MAX),
            ("growth_bits", self.growth_bits, GROWTH_BITS_MAX),
        )
        for name, value, most in limits:
            if type(value) is not int or not 0 <= value <= most:
                raise ValueError(f"{name} is a whole number 0..{most}, not {value!r}")

    @property
    def term_bits(self) -> int:
        """T: every term weight * value is below 2^T on the grid, so the bit trick stays exact."""
        return min(51, 62 - self.cohort_bits)

    @property
    def weight_max(self) -> int:
        """The largest weight of one update."""
        return 1 << self.weight_bits

    @property
    def count_max(self) -> int:
        """The most updates in one aggregate."""
        return 1 << self.cohort_bits


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do with one tensor: its kind, the grid's shifts (one a limb), and the range of values.

    Limb i counts in steps of 2^-shifts[i]. A finite value x is accepted if |x| <= limit.
    """

    spec: TensorSpec
    kind: Kind
    shifts: tuple[int, ...] = ()
    limit: float = math.inf


@dataclass(frozen=True, slots=True)
class Grid:
    """The base model's layout, its exponents in name order, the numbers, and what follows from them.

    Raises `ValueError` for exponents that do not belong to the layout.
    """

    layout: Layout
    exponents: tuple[int, ...]
    numbers: Numbers
    plans: tuple[Plan, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.exponents) != len(self.layout.tensors):
            raise ValueError(
                f"{len(self.exponents)} exponents for {len(self.layout.tensors)} tensors"
            )
        pairs = zip(self.layout.tensors, self.exponents, strict=True)
        plans = tuple(_plan(spec, exponent, self.numbers) for spec, exponent in pairs)
        object.__setattr__(self, "plans", plans)


def exponents_of(layout: Layout, buffer: Buffer) -> tuple[int, ...]:
    """Find the exponents of a base model, one a tensor in name order.

    `buffer` is the whole file. For m, the largest magnitude in an F32, F16 or BF16 tensor, it is the
    e with 2^(e-1) <= m < 2^e. A tensor that gives no scale yields `NO_EXPONENT` and is summed wide:
    smaller than `SMALL_ITEMS`, all elements equal (zeros, ones), or of another element type. Raises
    `ValueError` for a tensor with NaN or infinity; `checks.check_model` says so beforehand.
    """
    scratch = Scratch()
    return tuple(_exponent(spec, buffer, scratch) for spec in layout.tensors)


def _exponent(spec: TensorSpec, buffer: Buffer, scratch: Scratch) -> int:
    if spec.dtype not in ("F32", "F16", "BF16") or spec.items < SMALL_ITEMS:
        return NO_EXPONENT
    low, high = bounds(spec, buffer, scratch)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"tensor {spec.name!r} of the base model holds NaN or infinity")
    if low == high:
        return NO_EXPONENT
    return math.frexp(max(-low, high))[1]


def bounds(spec: TensorSpec, buffer: Buffer, scratch: Scratch) -> tuple[float, float]:
    """Find the smallest and the largest element of a float tensor; one of them is not finite if any is."""
    values = flat(spec, buffer)
    low, high = math.inf, -math.inf
    for start in range(0, spec.items, BLOCK_ITEMS):
        with np.errstate(invalid="ignore"):
            block = load(values[start : start + BLOCK_ITEMS], spec.dtype, scratch)
            least, most = float(block.min()), float(block.max())
        if math.isnan(least) or math.isnan(most):
            return math.nan, math.nan
        low, high = min(low, least), max(high, most)
    return low, high


def _plan(spec: TensorSpec, exponent: int, numbers: Numbers) -> Plan:
    if spec.dtype == "BOOL":
        return Plan(spec, Kind.BOOL)
    if spec.dtype not in LARGEST:
        return Plan(spec, Kind.COUNTER)
    free_bits = numbers.term_bits - numbers.weight_bits
    small = spec.items < SMALL_ITEMS or spec.dtype == "F64"
    if small or exponent == NO_EXPONENT or spec.name in numbers.wide:
        first = free_bits - WIDE_TOP_BITS
        shifts = (first, first + numbers.term_bits - 1)
        return Plan(spec, Kind.WIDE, shifts, min(2.0**WIDE_TOP_BITS, LARGEST[spec.dtype]))
    if type(exponent) is not int or not EXPONENT_MIN <= exponent <= EXPONENT_MAX:
        raise ValueError(f"tensor {spec.name!r} cannot have the exponent {exponent!r}")
    limit = min(math.ldexp(1.0, exponent + numbers.growth_bits), LARGEST[spec.dtype])
    return Plan(spec, Kind.EXACT, (free_bits - numbers.growth_bits - exponent,), limit)
