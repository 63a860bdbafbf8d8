"""Reads and writes tensor files (the safetensors format): strict and bounded in, canonical out.

A file is 8 bytes of header length (little-endian), a JSON header that names every tensor with its
type, shape and place, and the raw little-endian bytes in C order. One set of tensors has one file:
names sorted, no metadata, no gaps, the header padded with spaces to a multiple of 8 bytes.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

import numpy as np
from fedbus_schemas.models import TENSORS_MAX
from numpy.typing import NDArray

from fedbus.errors import BadModel, BadResult

HEADER_BYTES_MAX = 4 * 1024 * 1024
NAME_BYTES_MAX = 512
DIMENSIONS_MAX = 32
DIMENSION_MAX = 2**40
TENSOR_BYTES_MAX = 2**60
INTEGER_DIGITS_MAX = 19

Array: TypeAlias = NDArray[np.generic]
Buffer: TypeAlias = bytes | bytearray | memoryview
Kind: TypeAlias = tuple[str, tuple[int, ...]]
"""A tensor's element type, as the file names it, and its shape."""

DTYPES: dict[str, np.dtype[np.generic]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype(np.bool_),
}
"""How each element type lies in the file. numpy has no bfloat16, so trainers see it as float32."""

_NAMES = {f"{kind.kind}{kind.itemsize}": name for name, kind in DTYPES.items() if name != "BF16"}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor's place in a file: byte positions counted from the file's beginning."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def kinds(data: Buffer) -> dict[str, Kind]:
    """Read what tensors a file holds. Raises `BadModel`, whatever the bytes."""
    return {tensor.name: (tensor.dtype, tensor.shape) for tensor in layout(data)}


def layout(data: Buffer) -> tuple[Tensor, ...]:
    """Read a file's header, sorted by name. Raises `BadModel`, whatever the bytes.

    The tensors must cover the file without gap or overlap.
    """
    if len(data) < 8:
        _refuse(f"it has {len(data)} bytes, fewer than a tensor file's first 8")
    length = int.from_bytes(bytes(data[:8]), "little")
    if length > min(HEADER_BYTES_MAX, len(data) - 8):
        _refuse(f"the header claims {length} bytes")
    document = _parse(bytes(data[8 : 8 + length]))
    metadata = document.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        _refuse("__metadata__ is not an object of strings")
    if len(document) > TENSORS_MAX:
        _refuse(f"it holds {len(document)} tensors, over TENSORS_MAX = {TENSORS_MAX}")
    tensors = [_tensor(name, entry, 8 + length) for name, entry in document.items()]
    place = 8 + length
    for tensor in sorted(tensors, key=lambda tensor: (tensor.start, tensor.end)):
        if tensor.start != place:
            _refuse(f"tensor {tensor.name[:64]!r} leaves a gap or overlaps another")
        place = tensor.end
    if place != len(data):
        _refuse(f"the tensors end at byte {place}, the file at {len(data)}")
    return tuple(sorted(tensors, key=lambda tensor: tensor.name))


def read(data: Buffer) -> dict[str, Array]:
    """Read all tensors into arrays of their own, which may be written to; bfloat16 as float32.

    Raises `BadModel`, whatever the bytes.
    """
    return {tensor.name: _array(tensor, data) for tensor in layout(data)}


def header(fields: Iterable[tuple[str, Kind]]) -> bytes:
    """Encode the beginning of a canonical file; the tensors' bytes follow in the order of their names."""
    entries: dict[str, object] = {}
    place = 0
    for name, (dtype, shape) in sorted(fields):
        fault = _fault(name, dtype, shape)
        if fault is not None:
            raise BadResult(fault)
        end = place + math.prod(shape) * DTYPES[dtype].itemsize
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [place, end]}
        place = end
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > HEADER_BYTES_MAX:
        raise BadResult(f"the header takes {len(text)} bytes, over HEADER_BYTES_MAX")
    return len(text).to_bytes(8, "little") + text


def write(tensors: Mapping[str, Array], dtypes: Mapping[str, str] | None = None) -> bytes:
    """Encode a canonical file. Raises `BadResult` for a tensor that no file can hold.

    `dtypes` names the element types in the file where the arrays do not say them: only bfloat16,
    which is rounded to nearest, ties to even, from float32.
    """
    return b"".join(parts(tensors, dtypes))


def parts(
    tensors: Mapping[str, Array], dtypes: Mapping[str, str] | None = None
) -> Iterator[Buffer]:
    """Yield what `write` joins: nothing as large as the file is made. Raises as `write` does."""
    named = {name: (dtypes or {}).get(name) or dtype_name(name, tensors[name]) for name in tensors}
    yield header((name, (named[name], tensor.shape)) for name, tensor in tensors.items())
    for name in sorted(tensors):
        yield _raw(tensors[name], named[name])


def dtype_name(name: str, tensor: Array) -> str:
    """Name an array's element type as the format does. Raises `BadResult` where it has no name."""
    found = _NAMES.get(f"{tensor.dtype.kind}{tensor.dtype.itemsize}")
    if found is None:
        raise BadResult(f"tensor {name[:64]!r} has the element type {tensor.dtype}, not a number's")
    return found


def _array(tensor: Tensor, data: Buffer) -> Array:
    dtype = np.dtype(np.uint8) if tensor.dtype == "BOOL" else DTYPES[tensor.dtype]
    if tensor.start == tensor.end:
        flat: Array = np.empty(0, dtype)
    else:
        flat = np.frombuffer(data, dtype, math.prod(tensor.shape), tensor.start)
    if tensor.dtype == "BF16":
        bits = flat.astype(np.uint32) << np.uint32(16)
        return bits.view(np.float32).reshape(tensor.shape)
    if tensor.dtype == "BOOL":
        return flat.astype(np.bool_).reshape(tensor.shape)
    return flat.astype(dtype.newbyteorder("=")).reshape(tensor.shape)


def _raw(tensor: Array, dtype: str) -> Buffer:
    if dtype == "BF16":
        tensor = _to_bfloat16(tensor)
    flat: Array = np.ascontiguousarray(tensor, DTYPES[dtype]).reshape(-1)
    return flat.view(np.uint8).data if flat.size else b""


def _to_bfloat16(tensor: Array) -> Array:
    bits = np.ascontiguousarray(tensor, np.float32).view(np.uint32).astype(np.uint64)
    bits += np.uint64(0x7FFF) + ((bits >> np.uint64(16)) & np.uint64(1))
    return (bits >> np.uint64(16)).astype("<u2").reshape(tensor.shape)


def _parse(raw: bytes) -> dict[str, object]:
    # Every list and object costs far more memory than its two characters, so they are counted before
    # the parser makes them; the count also bounds how deep they can nest.
    if raw.count(b"[") + raw.count(b"{") > 4 * TENSORS_MAX + 64:
        _refuse("the header holds more lists and objects than any tensor file needs")
    if not raw.startswith(b"{"):
        _refuse("the header must begin with {")
    try:
        document: object = json.loads(
            raw.decode(),
            object_pairs_hook=_unique,
            parse_int=_small_int,
            parse_float=_no_number,
            parse_constant=_no_number,
        )
    except (ValueError, RecursionError) as error:
        raise BadModel("not a tensor file: the header is not valid JSON") from error
    if not isinstance(document, dict):
        _refuse("the header is not a JSON object")
    return document


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        _refuse("a key stands twice in the header")
    return fields


def _small_int(text: str) -> int:
    if len(text) > INTEGER_DIGITS_MAX or text.startswith("-"):
        _refuse("the header holds a number out of range")
    return int(text)


def _no_number(_: str) -> NoReturn:
    _refuse("the header holds a number that is not whole")


def _tensor(name: str, entry: object, data_start: int) -> Tensor:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        _refuse(f"tensor {name[:64]!r} needs exactly dtype, shape and data_offsets")
    dtype: object = entry["dtype"]
    shape = _numbers(name, entry["shape"])
    offsets = _numbers(name, entry["data_offsets"])
    if not isinstance(dtype, str) or len(offsets) != 2:
        _refuse(f"tensor {name[:64]!r} needs a named dtype and two data_offsets")
    fault = _fault(name, dtype, shape)
    if fault is not None:
        _refuse(fault)
    start, end = offsets
    if end - start != math.prod(shape) * DTYPES[dtype].itemsize:
        _refuse(f"tensor {name[:64]!r} has {end - start} bytes, which is not its shape's size")
    return Tensor(name, dtype, shape, data_start + start, data_start + end)


def _numbers(name: str, value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > DIMENSIONS_MAX:
        _refuse(f"tensor {name[:64]!r}: shape and data_offsets are short lists")
    numbers = tuple(item for item in value if type(item) is int)
    if len(numbers) != len(value):
        _refuse(f"tensor {name[:64]!r}: shape and data_offsets hold whole numbers only")
    return numbers


def _fault(name: str, dtype: str, shape: tuple[int, ...]) -> str | None:
    try:
        name_bytes = len(name.encode())
    except UnicodeEncodeError:
        return "a tensor's name is not valid Unicode"
    if name_bytes > NAME_BYTES_MAX or name == "__metadata__":
        return f"the tensor name {name[:64]!r} is reserved or over {NAME_BYTES_MAX} bytes"
    if dtype not in DTYPES:
        return f"tensor {name[:64]!r} has the unknown dtype {dtype[:16]!r}"
    if len(shape) > DIMENSIONS_MAX or any(not 0 <= side <= DIMENSION_MAX for side in shape):
        return f"tensor {name[:64]!r} has too many dimensions or too large a one"
    if math.prod(side for side in shape if side) * DTYPES[dtype].itemsize > TENSOR_BYTES_MAX:
        return f"tensor {name[:64]!r} is over {TENSOR_BYTES_MAX} bytes"
    return None


def _refuse(why: str) -> NoReturn:
    raise BadModel(f"not a tensor file that fedbus accepts: {why}")
