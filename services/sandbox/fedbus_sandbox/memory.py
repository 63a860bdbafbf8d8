"""What server functions remember from round to round: the attributes of their object, as a tensor file.

Arrays become tensors `a00000`, `a00001`, … in the order of their places; the rest is JSON in the tensor
`json`, where `{"array": n}` stands for the n-th array. Equal attributes give equal bytes. Nothing else than
None, truth values, numbers, text, lists, tuples, dictionaries by text or whole number, and arrays is kept.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from fedbus_core.aggregation.tensorfile import (
    Array,
    Buffer,
    TensorFileError,
    parse_layout,
    views,
    write,
)

DEPTH_MAX = 32


class CannotKeep(Exception):
    """An attribute cannot be kept; the text names it."""


def encode(attributes: Mapping[str, object]) -> bytes:
    """Write attributes as a tensor file. Raises `CannotKeep`."""
    arrays: list[Array] = []
    tree = {
        name: _plain(value, f"self.{name}", arrays, 0) for name, value in sorted(attributes.items())
    }
    text = json.dumps(tree, separators=(",", ":"), sort_keys=True).encode()
    tensors = {f"a{place:05d}": array for place, array in enumerate(arrays)}
    try:
        return write({**tensors, "json": np.frombuffer(text, np.uint8)})
    except TensorFileError as error:
        raise CannotKeep(error.detail) from error


def decode(data: Buffer) -> dict[str, object]:
    """Read attributes back; arrays are copies that can be written to. Raises `CannotKeep`."""
    try:
        found = views(parse_layout(data, memoryview(data).nbytes), data)
        tree = json.loads(bytes(found["json"]))
    except (TensorFileError, KeyError, ValueError) as error:
        raise CannotKeep(f"the state is not one of server functions: {error}") from error
    return {name: _restored(value, found) for name, value in tree.items()}


def _plain(value: object, place: str, arrays: list[Array], depth: int) -> object:
    if depth > DEPTH_MAX:
        raise CannotKeep(f"{place} is nested more than {DEPTH_MAX} deep")
    match value:
        case None | bool() | str():
            return value
        case np.ndarray():
            arrays.append(value)
            return {"array": len(arrays) - 1}
        case np.generic():
            return _plain(value.item(), place, arrays, depth)
        case int() | float():
            return value
        case list() | tuple():
            kind = "list" if isinstance(value, list) else "tuple"
            return {
                kind: [
                    _plain(one, f"{place}[{at}]", arrays, depth + 1) for at, one in enumerate(value)
                ]
            }
        case dict():
            pairs = [
                [_key(key, place), _plain(one, f"{place}[{key!r}]", arrays, depth + 1)]
                for key, one in value.items()
            ]
            return {"dict": pairs}
    raise CannotKeep(
        f"{place} is a {type(value).__name__}, which cannot be kept from round to round: "
        "keep arrays, numbers, text, lists and dictionaries"
    )


def _key(key: object, place: str) -> str | int:
    if isinstance(key, str | int):
        return key
    raise CannotKeep(
        f"{place} has a key of type {type(key).__name__}: keys are text or whole numbers"
    )


def _restored(value: Any, arrays: Mapping[str, Array]) -> object:  # what JSON gives
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    match kind:
        case "array":
            return np.array(arrays[f"a{content:05d}"])
        case "list":
            return [_restored(one, arrays) for one in content]
        case "tuple":
            return tuple(_restored(one, arrays) for one in content)
        case _:
            return {key: _restored(one, arrays) for key, one in content}
