"""How a model lies in the file that a package reads, and in the one that it writes."""

import json
import shutil
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fedbus import _tensorfile
from fedbus._tensorfile import Array
from fedbus.errors import BadResult
from fedbus.helpers import DEFAULT, Helper, find, limits, names
from fedbus.packages import converter
from fedbus.packages.manifest import EDGE, FOREIGN_HELPER, Manifest

SUFFIXES = {"numpyhelper": ".npz", DEFAULT: ".safetensors"}
MEMBER, METADATA = "training_model.bin", "metadata.json"
"""Where Scaleout's model container keeps the model itself, and what it says of it."""
CONTAINER_VERSION = 2
COPY_BYTES = 1024 * 1024
MODEL_BYTES_MAX = 8 * 1024**3
"""The largest model that is taken out of a container where nothing is known of it."""
SLACK_BYTES = 16 * 1024 * 1024
"""What a model in a container may have beyond eight bytes a number."""


@dataclass(frozen=True, slots=True)
class Form:
    """A helper's form, in Scaleout's container or bare. Reading takes either."""

    helper: Helper
    suffix: str
    in_container: bool = False

    def write(self, model: Mapping[str, Array], path: Path, digest: str) -> None:
        """Write a model; `digest` is its SHA-256, the container's `model_id`."""
        if not self.in_container:
            self.helper.to_file(model, path)
            return
        bare = path.with_name(f"{path.name}.bare")
        self.helper.to_file(model, bare)
        facts = {"version": CONTAINER_VERSION, "model_id": digest, "helper_type": FOREIGN_HELPER}
        with zipfile.ZipFile(path, "w") as container:
            container.writestr(METADATA, json.dumps(facts))
            container.write(bare, MEMBER)
        bare.unlink()

    def read(self, path: Path, like: Mapping[str, Array]) -> dict[str, Array]:
        """Read a model with the names and shapes of `like`. Raises `BadModel` and `BadResult`."""
        return self.helper.from_file(_bare(path, like), like)


class Shipped:
    """Implements `fedbus.helpers.Helper` with the package's own one, which runs in a process of the package."""

    def __init__(self, convert: Callable[..., None]) -> None:
        """`convert(way, source, target, *like)` has `converter` convert a file. Raises `PackageFailed`."""
        self._convert = convert

    def to_file(self, arrays: Mapping[str, Array], path: Path) -> None:
        """Write arrays in the package's form."""
        given = path.with_name(f"{path.name}.tensors")
        given.write_bytes(_tensorfile.write(arrays))
        self._convert(converter.TO, given, path)
        given.unlink()

    def from_file(self, path: Path, like: Mapping[str, Array]) -> dict[str, Array]:
        """Read arrays from the package's form. Raises `BadModel`, whatever came of it."""
        made, model = (path.with_name(f"{path.name}.{end}") for end in ("tensors", "like"))
        if like:
            model.write_bytes(_tensorfile.write(like))
        self._convert(converter.FROM, path, made, *([model] if like else []))
        arrays = _tensorfile.read(limits.read(made, _bytes_max(like)))
        limits.check_names(arrays, like)
        for name, array in arrays.items():
            limits.check_shape(name, array.shape, like)
        return arrays


def form_of(
    manifest: Manifest, folder: Path | None = None, convert: Callable[..., None] | None = None
) -> Form:
    """Give the form that a package reads and writes. Raises `BadOption` for an unknown helper.

    A helper that is not installed may be the package's own: `NAME.py` in its folder.
    """
    name = manifest.helper
    if convert is not None and folder is not None and own_helper(manifest, folder) is not None:
        return Form(Shipped(convert), ".bin")
    return Form(find(name), SUFFIXES.get(name, ".bin"), in_container=manifest.file == EDGE)


def own_helper(manifest: Manifest, folder: Path) -> str | None:
    """Name the file of the helper that a package ships, if it does."""
    file = f"{manifest.helper}.py"
    is_own = manifest.helper.isidentifier() and manifest.helper not in names()
    return file if is_own and (folder / file).is_file() else None


def _bytes_max(like: Mapping[str, Array]) -> int:
    """Bound a model by the one that is expected; where nothing is known, by the largest there may be."""
    return SLACK_BYTES + 8 * sum(one.size for one in like.values()) if like else MODEL_BYTES_MAX


def _bare(made: Path, like: Mapping[str, Array]) -> Path:
    """Take the model out of Scaleout's container, if it came in one. Nothing else of it is read."""
    if not zipfile.is_zipfile(made):
        return made
    bytes_max = _bytes_max(like)
    try:
        with zipfile.ZipFile(made) as container:
            if MEMBER not in container.namelist():
                return made
            if container.getinfo(MEMBER).file_size > bytes_max:
                raise BadResult(f"the model in the container has over {bytes_max} bytes")
            bare = made.with_name(f"{made.name}.bare")
            with container.open(MEMBER) as content, bare.open("wb") as file:
                shutil.copyfileobj(content, file, COPY_BYTES)
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError) as error:
        raise BadResult(f"the model container cannot be read: {error}") from error
    return bare
