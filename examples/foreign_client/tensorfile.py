"""Tensor files (the safetensors format) of float32 tensors, by name."""

import json
import math
import sys
from array import array
from collections.abc import Mapping
from dataclasses import dataclass

LENGTH_BYTES = 8
FLOAT_BYTES = 4


@dataclass
class Tensor:
    """Values in C order, and the lengths of the dimensions."""

    shape: list[int]
    values: "array[float]"


def read(file: bytes) -> dict[str, Tensor]:
    """Read all tensors. Raises `ValueError` for what this client cannot train."""
    begin = LENGTH_BYTES + int.from_bytes(file[:LENGTH_BYTES], "little")
    found = {}
    for name, entry in json.loads(file[LENGTH_BYTES:begin]).items():
        if name == "__metadata__":
            continue
        if entry["dtype"] != "F32":
            raise ValueError(f"tensor {name!r} is {entry['dtype']}; this client trains F32 only")
        start, end = entry["data_offsets"]
        values = array("f", file[begin + start : begin + end])
        if len(values) != math.prod(entry["shape"]):
            raise ValueError(f"tensor {name!r} has {len(values)} values, not its shape's")
        found[name] = Tensor(entry["shape"], _little(values))
    return found


def write(tensors: Mapping[str, Tensor]) -> bytes:
    """Write a file: names sorted, no gaps, the header padded with blanks to a multiple of 8 bytes."""
    header, raw = {}, b""
    for name, tensor in sorted(tensors.items()):
        data = _little(tensor.values).tobytes()
        place = [len(raw), len(raw) + len(data)]
        header[name] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": place}
        raw += data
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % LENGTH_BYTES)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text + raw


def _little(values: "array[float]") -> "array[float]":
    if sys.byteorder == "big":
        values = values[:]
        values.byteswap()
    return values
