"""Integer tensors of a round: step counters, masks of indices. The model gets the element-wise maximum.

A maximum cannot be taken back, and an update can. So every distinct value of a tensor is kept with
how often it came; for counters that is a few bytes a client, and a constant tensor is kept once.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from fedbus_core.aggregation.tensorfile import DTYPES, Array, TensorSpec

COUNTER_BYTES_MAX = 256 * 1024 * 1024
"""The most bytes of distinct integer tensors in one accumulator."""


class Counters:
    """The distinct values of every integer tensor, as raw little-endian bytes, with their numbers."""

    __slots__ = ("_seen",)

    def __init__(self, names: Iterable[str]) -> None:
        self._seen: dict[str, Counter[bytes]] = {name: Counter() for name in names}

    def add(self, columns: Sequence[Mapping[str, Array]]) -> None:
        """Count the tensors of these updates in. Raises `ValueError` above `COUNTER_BYTES_MAX`."""
        self._merge({name: _tally(name, columns) for name in self._seen})

    def remove(self, columns: Sequence[Mapping[str, Array]]) -> None:
        """Count the tensors of these updates out. Raises `ValueError` if they were never in."""
        tallies = {name: _tally(name, columns) for name in self._seen}
        if any(not tally <= self._seen[name] for name, tally in tallies.items()):
            raise ValueError("these integer tensors were never added")
        for name, tally in tallies.items():
            self._seen[name] -= tally

    def merge(self, other: "Counters") -> None:
        """Count in all that another holds. Raises `ValueError` above `COUNTER_BYTES_MAX`."""
        self._merge(other._seen)

    def rows(self, name: str) -> list[tuple[bytes, int]]:
        """Give the distinct values of a tensor with their numbers, sorted by their bytes."""
        return sorted(self._seen[name].items())

    def load(self, name: str, rows: Iterable[tuple[bytes, int]]) -> None:
        """Replace what is known of a tensor by these distinct values and numbers."""
        self._seen[name] = Counter(dict(rows))

    def largest(self, spec: TensorSpec) -> bytes:
        """Give the element-wise maximum over all updates as little-endian bytes."""
        kind = DTYPES[spec.dtype]
        result = np.zeros(0, kind)
        if spec.nbytes:
            rows = [np.frombuffer(value, kind) for value in self._seen[spec.name]]
            result = rows[0].copy()
            for row in rows[1:]:
                np.maximum(result, row, out=result)
        return result.tobytes()

    def _merge(self, tallies: Mapping[str, Counter[bytes]]) -> None:
        merged = {name: self._seen[name] + tally for name, tally in tallies.items()}
        size = sum(len(value) for tally in merged.values() for value in tally)
        if size > COUNTER_BYTES_MAX:
            raise ValueError(
                f"the updates' integer tensors hold {size} bytes of distinct values, over "
                f"COUNTER_BYTES_MAX = {COUNTER_BYTES_MAX}; store large tensors as floats"
            )
        self._seen = merged


def _tally(name: str, columns: Sequence[Mapping[str, Array]]) -> Counter[bytes]:
    return Counter(column[name].tobytes() for column in columns)
