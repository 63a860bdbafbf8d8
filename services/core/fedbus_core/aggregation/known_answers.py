"""Known answers: what a process computes at its start, before it may fold anything.

Every path of rule `mean/1` runs on fixed inputs, and the SHA-256 of the partial and of the model must
be the pinned ones. That catches a miscompiled or changed numpy, flush-to-zero switched on by some
other library, and a platform with other arithmetic. A wrong model would look like any other one.
"""

import hashlib
from typing import Final

import numpy as np

from fedbus_core.aggregation.checks import check_update
from fedbus_core.aggregation.exact import MEAN_VERSION, Accumulator, Grid, Numbers, exponents_of
from fedbus_core.aggregation.tensorfile import Array, parse_layout, write

ITEMS = 1_000
ITEMS_EXACT = 67_000
"""Enough for the one-limb path, which small tensors do not take, and for a second, shorter block."""

WEIGHTS = (1, 12_345, 1 << 20)
PARTIAL_SHA256: Final = "06a78b5094fd75c89d14eefb23b8b9ccff89392976980462ace90af618f72058"
MODEL_SHA256: Final = "4f3185b5cea50e6d2d372f74e002766a603001598031bc4b267ebf2db1242c9b"


class NumericsError(Exception):
    """This process computes other bits than the rule fixes. It must not take part."""


def self_test() -> None:
    """Fold three fixed updates along every path. Raises `NumericsError` if a bit differs."""
    partial, model = answers()
    if (partial, model) != (PARTIAL_SHA256, MODEL_SHA256):
        raise NumericsError(
            f"the arithmetic of this process fails the known-answer test of rule {MEAN_VERSION}: "
            f"partial {partial}, model {model} with numpy {np.__version__}. Do not run it. Install "
            "the pinned numpy, remove libraries built with fast-math, or use another machine."
        )


def answers() -> tuple[str, str]:
    """Compute the SHA-256 of the partial and of the model."""
    base = write(_tensors(0), bf16=("brain", "brain_small"))
    layout = parse_layout(base, len(base))
    grid = Grid(layout, exponents_of(layout, base), Numbers(wide=frozenset({"listed"})))
    total = Accumulator(grid)
    for number, weight in enumerate(WEIGHTS, start=1):
        update = write(_tensors(number), bf16=("brain", "brain_small"))
        finding = check_update(grid, parse_layout(update, len(update)), update)
        if finding is not None:
            raise NumericsError(f"a known update was refused: {finding.detail}")
        total.add(update, weight)
    partial = hashlib.sha256(total.to_bytes()).hexdigest()
    model = hashlib.sha256()
    for piece in total.mean(base):
        model.update(piece)
    return partial, model.hexdigest()


def _tensors(number: int) -> dict[str, Array]:
    """Make one update; 0 is the base. Every value is a small whole number times a power of two."""
    whole = _whole_numbers(number + 1)
    exact = np.resize(whole, ITEMS_EXACT)
    real = exact.astype(np.float64)
    half = np.resize(whole // 2**13, ITEMS_EXACT)
    return {
        "brain": _upper_half((half * 2.0**-9).astype("<f4")),
        "brain_small": _upper_half((half[:ITEMS] * 2.0**-7).astype("<f4")),
        "constant": np.full(ITEMS_EXACT, 1 if number == 0 else number * 2.0**-3, "<f4"),
        "counter": np.asarray(whole[:7], "<i8"),
        "double": whole * 2.0**-20 + whole[::-1] * 2.0**-50,
        "flags": whole % 3 == 0,
        "half": (half * 2.0**-10).astype("<f2"),
        "listed": (real * 2.0**-30).astype("<f4"),
        "single": (real * 2.0**-24).astype("<f4"),
        "small": (whole * 2.0**-24).astype("<f4"),
        # Below the smallest normal float32: gone if anything flushes to zero.
        "subnormal": (real * 2.0**-149).astype("<f4"),
        "unsigned": np.asarray(whole[:3] % 256, "u1"),
    }


def _whole_numbers(seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Draw `ITEMS` whole numbers of 21 bits and a sign by a linear congruence, the same everywhere."""
    state = seed
    numbers = []
    for _ in range(ITEMS):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        numbers.append((state >> 42) - 2**21)
    return np.array(numbers, np.int64)


def _upper_half(values: Array) -> Array:
    """Cut float32 values to bfloat16; the known ones fit exactly."""
    return (values.view("<u4") >> np.uint32(16)).astype("<u2")
