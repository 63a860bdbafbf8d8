"""Helpers whose files keep the arrays' names: `safetensors` (the default) and `splitlearninghelper`."""

from collections.abc import Mapping
from pathlib import Path

from fedbus import _tensorfile
from fedbus._tensorfile import Array
from fedbus.helpers import limits, npz


class Safetensors:
    """`safetensors`: the form that the servers use, so nothing is converted."""

    def to_file(self, arrays: Mapping[str, Array], path: Path) -> None:
        """Write a canonical tensor file."""
        with path.open("wb") as file:
            for part in _tensorfile.parts(arrays):
                file.write(part)

    def from_file(self, path: Path, like: Mapping[str, Array]) -> dict[str, Array]:
        """Read a tensor file; bfloat16 comes as float32."""
        content_max = limits.content_bytes_max(like)
        data = limits.read(path, _tensorfile.HEADER_BYTES_MAX + 8 + content_max)
        layout = _tensorfile.kinds(data)
        limits.check_names(layout, like)
        for name, (_, shape) in layout.items():
            limits.check_shape(name, shape, like)
        return _tensorfile.read(data)


class Embeddings:
    """`splitlearninghelper`: an array for each client in a compressed npz archive, as FEDn's of that name.

    How many rows an embedding has the clients say, so `like` is empty in most calls.
    """

    def to_file(self, arrays: Mapping[str, Array], path: Path) -> None:
        """Write the arrays by their names."""
        npz.write(path, arrays)

    def from_file(self, path: Path, like: Mapping[str, Array]) -> dict[str, Array]:
        """Read the arrays by their names."""
        return npz.read(path, like)
