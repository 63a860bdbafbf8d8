"""What every helper checks before it reads: how long the file may be, and whether it holds what is expected."""

import math
from collections.abc import Mapping
from pathlib import Path

from fedbus._tensorfile import Array
from fedbus.errors import BadModel

BYTES_MAX = 8 * 1024**3
"""What a file may hold when nothing says what model it is."""
ITEM_BYTES_MAX = 8
"""The longest element that a tensor file knows: a package may widen float32 to float64."""


def content_bytes_max(like: Mapping[str, Array]) -> int:
    """Give how many bytes of arrays a file may hold."""
    if not like:
        return BYTES_MAX
    return sum(array.size for array in like.values()) * ITEM_BYTES_MAX


def read(path: Path, bytes_max: int) -> bytes:
    """Read a whole file of at most so many bytes. Raises `BadModel`."""
    try:
        with path.open("rb") as file:
            data = file.read(bytes_max + 1)
    except OSError as error:
        raise BadModel(f"the file {path.name} cannot be read: {error}") from error
    if len(data) > bytes_max:
        raise BadModel(f"the file {path.name} is longer than the {bytes_max} bytes it may have")
    return data


def check_names(found: Mapping[str, object], like: Mapping[str, Array]) -> None:
    """Refuse a file with other names than expected. Raises `BadModel`."""
    missing, unknown = sorted(like.keys() - found.keys()), sorted(found.keys() - like.keys())
    if like and (missing or unknown):
        detail = (
            f"{missing[0]!r} is missing" if missing else f"{unknown[0][:64]!r} is not in the model"
        )
        raise BadModel(f"the file does not hold the model's arrays: {detail}")


def check_shape(name: str, shape: tuple[int, ...], like: Mapping[str, Array]) -> None:
    """Refuse an array of another shape than expected. Raises `BadModel`."""
    if like and shape != like[name].shape:
        raise BadModel(f"array {name!r} has the shape {shape}, the model's has {like[name].shape}")


def split(flat: Array, like: Mapping[str, Array], order: tuple[str, ...]) -> dict[str, Array]:
    """Cut a vector into the arrays of `like`, in this order. Raises `BadModel` when its length is another."""
    if not like:
        return {"0": flat}
    wanted = sum(array.size for array in like.values())
    if flat.size != wanted:
        raise BadModel(f"the file holds {flat.size} numbers, the model has {wanted}")
    found: dict[str, Array] = {}
    place = 0
    for name in order:
        size = math.prod(like[name].shape)
        found[name] = flat[place : place + size].reshape(like[name].shape)
        place += size
    return found
