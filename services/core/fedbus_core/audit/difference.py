"""How far two models of one layout lie apart: for people to read, nothing is decided on it."""

from dataclasses import dataclass

import numpy as np

from fedbus_core.aggregation.grid import LARGEST
from fedbus_core.aggregation.loading import BLOCK_ITEMS, Scratch, load
from fedbus_core.aggregation.tensorfile import Buffer, flat, parse_layout


@dataclass(frozen=True, slots=True)
class Difference:
    """The largest absolute difference of two float elements, and the first tensor that has it."""

    largest: float
    tensor: str


def difference(one: Buffer, other: Buffer) -> Difference:
    """Compare the float tensors of two files of one layout, block by block. Counters and masks are left out:
    how far they lie apart says nothing.
    """
    layout, theirs = parse_layout(one, len(one)), parse_layout(other, len(other))
    if not layout.same_as(theirs):
        raise ValueError("the models have different layouts")
    first, second = Scratch(), Scratch()
    found = Difference(0.0, "")
    for mine, yours in zip(layout.tensors, theirs.tensors, strict=True):
        if mine.dtype not in LARGEST:
            continue
        left, right = flat(mine, one), flat(yours, other)
        for start in range(0, mine.items, BLOCK_ITEMS):
            stop = start + BLOCK_ITEMS
            values = load(left[start:stop], mine.dtype, first)
            np.subtract(values, load(right[start:stop], mine.dtype, second), out=values)
            largest = float(np.abs(values, out=values).max())
            if largest > found.largest:
                found = Difference(largest, mine.name)
    return found
