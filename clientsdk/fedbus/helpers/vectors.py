"""Helpers whose files are numbers and nothing else: `binaryhelper`, `androidhelper` and `rawbytes`.

Such a file says neither names nor shapes. The arrays follow each other in the model's list order, each in C
order, little-endian; the model that is expected says where each begins.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fedbus._tensorfile import Array
from fedbus.errors import BadModel, BadResult
from fedbus.helpers import limits, list_order

RAW_NAME = "bytes"
"""The one tensor of a model that is only bytes to us: uint8, one dimension."""


class _Vector:
    """All arrays as one vector of one element type."""

    def __init__(self, kind: str) -> None:
        self._kind: np.dtype[np.generic] = np.dtype(kind)

    def to_file(self, arrays: Mapping[str, Array], path: Path) -> None:
        """Write the arrays one after another, cast to the form's element type."""
        with path.open("wb") as file:
            for name in list_order(arrays):
                if arrays[name].dtype.kind not in "fiub":
                    raise BadResult(f"tensor {name!r} has the element type {arrays[name].dtype}")
                file.write(np.ascontiguousarray(arrays[name], self._kind).tobytes())

    def from_file(self, path: Path, like: Mapping[str, Array]) -> dict[str, Array]:
        """Read the vector and cut it into the model's arrays; one array `0` when no model is known."""
        data = limits.read(path, limits.content_bytes_max(like))
        if len(data) % self._kind.itemsize:
            raise BadModel(f"the file has {len(data)} bytes, no whole number of {self._kind}")
        flat = np.frombuffer(bytearray(data), self._kind) if data else np.empty(0, self._kind)
        native = flat.astype(self._kind.newbyteorder("="), copy=False)
        return limits.split(native, like, list_order(like))


class Float64(_Vector):
    """`binaryhelper`: raw float64, as FEDn's helper of that name."""

    def __init__(self) -> None:
        super().__init__("<f8")


class Float32(_Vector):
    """`androidhelper`: packed float32, as FEDn's helper of that name and its mobile clients."""

    def __init__(self) -> None:
        super().__init__("<f4")


class RawBytes:
    """`rawbytes`: a model that only the package understands, carried as the one uint8 tensor `bytes`.

    The length may not change from round to round, and the servers' mean of bytes means nothing: a session
    over such models needs an average of the user's own on the server. This helper only carries them.
    """

    def to_file(self, arrays: Mapping[str, Array], path: Path) -> None:
        """Write the tensor's bytes as they are."""
        if {*arrays} != {RAW_NAME} or arrays[RAW_NAME].dtype != np.uint8:
            raise BadResult(f"a model of raw bytes has one uint8 tensor named {RAW_NAME!r}")
        path.write_bytes(np.ascontiguousarray(arrays[RAW_NAME]).tobytes())

    def from_file(self, path: Path, like: Mapping[str, Array]) -> dict[str, Array]:
        """Read the file as it is."""
        limits.check_names({RAW_NAME: None}, like)
        flat = np.frombuffer(bytearray(limits.read(path, limits.content_bytes_max(like))), np.uint8)
        limits.check_shape(RAW_NAME, flat.shape, like)
        return {RAW_NAME: flat}
