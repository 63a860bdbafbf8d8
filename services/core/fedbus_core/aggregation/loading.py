"""Decodes blocks of tensors to float64, exactly, into scratch memory that is made once.

No temporary here or in the kernels is larger than a block, however large the model.
"""

from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedbus_core.aggregation.tensorfile import Array

BLOCK_ITEMS = 65_536
"""Elements in a block: its float64 scratch stays in the second-level cache. It changes no bit."""

Floats: TypeAlias = NDArray[np.float64]


def _block_float64() -> Floats:
    return np.empty(BLOCK_ITEMS, np.float64)


def _block_uint32() -> NDArray[np.uint32]:
    return np.empty(BLOCK_ITEMS, np.uint32)


@dataclass(frozen=True, slots=True)
class Scratch:
    """Memory for one block, owned by one thread at a time."""

    values: Floats = field(default_factory=_block_float64)
    second: Floats = field(default_factory=_block_float64)
    bits: NDArray[np.uint32] = field(default_factory=_block_uint32)


def load(block: Array, dtype: str, scratch: Scratch) -> Floats:
    """Decode a block of a float tensor into `scratch.values`; every float type fits exactly."""
    values = scratch.values[: block.size]
    if dtype == "BF16":
        np.copyto(values, upper_halves(block, scratch))
    else:
        np.copyto(values, block)
    return values


def upper_halves(block: Array, scratch: Scratch) -> NDArray[np.float32]:
    """Decode raw bfloat16 to float32 in `scratch.bits`: it is the upper half of a float32."""
    bits = scratch.bits[: block.size]
    np.copyto(bits, block)
    np.left_shift(bits, np.uint32(16), out=bits)
    return bits.view(np.float32)
