"""Reads and writes tensor files (the safetensors format), bounded and canonical.

A file is 8 bytes of header length (little-endian), a JSON header that names every tensor with its
type, shape and place, and the tensors' raw little-endian bytes in C order. Reading never raises
anything but `TensorFileError`, whatever the bytes, and never takes more memory than twenty times
the header. Writing has one result for one set of tensors: names sorted, the header padded with
spaces to a multiple of 8 bytes, no metadata, no gaps.
"""

import hashlib
import json
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

import numpy as np
from fedbus_schemas.models import TENSORS_MAX
from fedbus_schemas.refusals import RefusalCode
from numpy.typing import NDArray

HEADER_BYTES_MAX = 4 * 1024 * 1024
NAME_BYTES_MAX = 512
DIMENSIONS_MAX = 32
DIMENSION_MAX = 2**40
TENSOR_BYTES_MAX = 2**60

LENGTH_BYTES = 8
ALIGNMENT = 8
METADATA = "__metadata__"
DETAIL_CHARS_MAX = 300
INTEGER_DIGITS_MAX = 19

Buffer: TypeAlias = bytes | bytearray | memoryview
Array: TypeAlias = NDArray[np.generic]
Field: TypeAlias = tuple[str, str, tuple[int, ...]]
"""What a header says of a tensor besides its place: name, element type, shape."""

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
"""Element types by their name in the file. numpy has no bfloat16: its raw 16 bits are read as unsigned."""

_NAMES = {f"{kind.kind}{kind.itemsize}": name for name, kind in DTYPES.items() if name != "BF16"}


class TensorFileError(Exception):
    """The bytes are not a tensor file that we accept. `code` and `detail` are what a refusal needs."""

    def __init__(self, code: RefusalCode, detail: str) -> None:
        self.code = code
        self.detail = detail[:DETAIL_CHARS_MAX]
        super().__init__(self.detail)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor of a file. `start` and `end` are byte positions counted from the file's beginning."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def items(self) -> int:
        """Number of elements; 1 for a tensor without dimensions."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Length in bytes."""
        return self.end - self.start

    @property
    def field(self) -> Field:
        """Name, element type and shape: all that does not depend on the place in the file."""
        return self.name, self.dtype, self.shape


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything is in a file: tensors sorted by name, first byte of the first one, file length."""

    tensors: tuple[TensorSpec, ...]
    data_start: int
    size: int

    @property
    def fields(self) -> tuple[Field, ...]:
        """Name, element type and shape of every tensor, sorted by name."""
        return tuple(spec.field for spec in self.tensors)

    @property
    def digest(self) -> str:
        """Hex SHA-256 over the fields; two files of the same kind of model share it, however padded."""
        listed = [[name, dtype, list(shape)] for name, dtype, shape in self.fields]
        canonical = json.dumps(listed, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode("utf-8")).hexdigest()

    def same_as(self, other: "Layout") -> bool:
        """Whether both files hold the same names, element types and shapes."""
        return self.fields == other.fields


def header_length(head: Buffer) -> int:
    """How many bytes of a file `parse_layout` needs, told by the first 8. Raises `TensorFileError`."""
    if len(head) < LENGTH_BYTES:
        _refuse(f"a tensor file has at least {LENGTH_BYTES} bytes, not {len(head)}")
    length = int.from_bytes(bytes(head[:LENGTH_BYTES]), "little")
    if length > HEADER_BYTES_MAX:
        _refuse(f"the header claims {length} bytes, over HEADER_BYTES_MAX = {HEADER_BYTES_MAX}")
    return LENGTH_BYTES + length


def parse_layout(head: Buffer, size: int, *, tensors_max: int = TENSORS_MAX) -> Layout:
    """Read the header of a tensor file.

    `head` holds at least the first `header_length(head)` bytes, `size` is the length of the whole
    file. The tensors must cover the rest of the file without gap or overlap. Metadata is checked for
    its form and then left out. Raises `TensorFileError` and nothing else, whatever the bytes.
    """
    data_start = header_length(head)
    if min(len(head), size) < data_start:
        _refuse(f"the header ends at byte {data_start}, but there are {min(len(head), size)} bytes")
    document = _parse_json(bytes(head[LENGTH_BYTES:data_start]), tensors_max)
    metadata = document.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        _refuse(f"{METADATA} must be an object of strings")
    if len(document) > tensors_max:
        _refuse(f"{len(document)} tensors, over TENSORS_MAX = {tensors_max}")
    tensors = [_spec(name, entry, data_start) for name, entry in document.items()]
    _check_cover(tensors, data_start, size)
    return Layout(tuple(sorted(tensors, key=lambda spec: spec.name)), data_start, size)


def encode_header(fields: Iterable[Field]) -> bytes:
    """Encode the canonical beginning of a file: 8 bytes of length, then the padded JSON header.

    The tensors' bytes must follow in the order of their names (code points), without gaps. Raises
    `TensorFileError` for what `parse_layout` would refuse.
    """
    entries: dict[str, object] = {}
    place = 0
    for name, dtype, shape in sorted(fields):
        if name in entries:
            _refuse(f"two tensors are called {name[:64]!r}")
        _check_field(name, dtype, shape)
        end = place + math.prod(shape) * DTYPES[dtype].itemsize
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [place, end]}
        place = end
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % ALIGNMENT)
    if len(text) > HEADER_BYTES_MAX:
        _refuse(f"the header takes {len(text)} bytes, over HEADER_BYTES_MAX = {HEADER_BYTES_MAX}")
    return len(text).to_bytes(LENGTH_BYTES, "little") + text


def parts(tensors: Mapping[str, Array], *, bf16: Collection[str] = ()) -> list[Buffer]:
    """Encode a canonical tensor file as a list of buffers to be written one after another.

    The buffers share memory with arrays that are little-endian and C-contiguous already. uint16
    arrays named in `bf16` are written as bfloat16. Values are left as they are, -0.0 too. Raises
    `TensorFileError` for an element type without a name in the format and for limits.
    """
    names = sorted(tensors)
    header = encode_header(
        (name, dtype_name(tensors[name].dtype, bf16=name in bf16), tensors[name].shape)
        for name in names
    )
    return [header, *(_raw(tensors[name]) for name in names)]


def write(tensors: Mapping[str, Array], *, bf16: Collection[str] = ()) -> bytes:
    """Encode a canonical tensor file. As `parts`, joined."""
    return b"".join(parts(tensors, bf16=bf16))


def flat(spec: TensorSpec, buffer: Buffer) -> Array:
    """View a tensor of the file in `buffer` as one dimension, without a copy, perhaps unaligned.

    bfloat16 comes as uint16 and BOOL as uint8, both raw.
    """
    kind = np.dtype(np.uint8) if spec.dtype == "BOOL" else DTYPES[spec.dtype]
    if spec.nbytes == 0:
        return np.empty(0, kind)
    view: Array = np.frombuffer(buffer, kind, count=spec.items, offset=spec.start)
    view.flags.writeable = False
    return view


def views(layout: Layout, buffer: Buffer) -> dict[str, Array]:
    """View every tensor of the file in `buffer`, read-only, in its shape; bfloat16 comes as uint16.

    Nothing is copied but a tensor whose bytes lie unaligned. `buffer` is the whole file that `layout`
    was read from; the views keep it alive.
    """
    return {spec.name: _shaped(spec, buffer) for spec in layout.tensors}


def as_float32(spec: TensorSpec, buffer: Buffer) -> NDArray[np.float32]:
    """Decode a BF16, F16 or F32 tensor of the file in `buffer` to float32, exactly, in its shape.

    A bfloat16 is the upper half of a float32. Raises `ValueError` for other element types.
    """
    raw = flat(spec, buffer)
    if spec.dtype == "BF16":
        bits = raw.astype(np.uint32)
        np.left_shift(bits, np.uint32(16), out=bits)
        return bits.view(np.float32).reshape(spec.shape)
    if spec.dtype not in ("F16", "F32"):
        raise ValueError(f"{spec.dtype} does not fit into float32 exactly")
    return raw.astype(np.float32).reshape(spec.shape)


def dtype_name(kind: np.dtype[np.generic], *, bf16: bool = False) -> str:
    """Name an element type as the format does. Raises `TensorFileError` where it has no name."""
    name = _NAMES.get(f"{kind.kind}{kind.itemsize}")
    if name is None:
        raise TensorFileError(RefusalCode.DTYPE_MISMATCH, f"no tensor file holds {kind}")
    if not bf16:
        return name
    if name != "U16":
        raise TensorFileError(RefusalCode.DTYPE_MISMATCH, f"raw bfloat16 is uint16, not {kind}")
    return "BF16"


def _shaped(spec: TensorSpec, buffer: Buffer) -> Array:
    view = flat(spec, buffer)
    if not view.flags.aligned:
        view = view.copy()
    if spec.dtype == "BOOL":
        view = view.view(np.bool_)
    view = view.reshape(spec.shape)
    view.flags.writeable = False
    return view


def _raw(tensor: Array) -> Buffer:
    little = tensor.dtype.newbyteorder("<")
    raw = np.ascontiguousarray(tensor, little).reshape(-1)
    return raw.view(np.uint8).data if raw.size else b""


def _refuse(detail: str) -> NoReturn:
    raise TensorFileError(RefusalCode.UNREADABLE, detail)


def _parse_json(raw: bytes, tensors_max: int) -> dict[str, object]:
    # Every list and object costs far more memory than its two characters, so they are counted before
    # the parser makes them; the count also bounds how deep they can nest.
    if raw.count(b"[") + raw.count(b"{") > 4 * tensors_max + 64:
        _refuse("the header holds more lists and objects than any tensor file needs")
    if not raw.startswith(b"{"):
        _refuse("the header must begin with {")
    try:
        document: object = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_int=_small_int,
            parse_float=_no_number,
            parse_constant=_no_number,
        )
    except (ValueError, RecursionError) as error:
        raise TensorFileError(
            RefusalCode.UNREADABLE, f"the header is not valid JSON: {error}"
        ) from error
    assert isinstance(document, dict), "valid JSON that begins with { is an object"
    return document


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        _refuse("a key stands twice in the header")
    return fields


def _small_int(text: str) -> int:
    if len(text) > INTEGER_DIGITS_MAX or text.startswith("-"):
        _refuse(f"the header holds the number {text[:INTEGER_DIGITS_MAX]}, out of range")
    return int(text)


def _no_number(text: str) -> NoReturn:
    _refuse(f"the header holds {text[:INTEGER_DIGITS_MAX]}, only whole numbers are allowed")


def _spec(name: str, entry: object, data_start: int) -> TensorSpec:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        _refuse(f"tensor {name[:64]!r} needs exactly dtype, shape and data_offsets")
    dtype: object = entry["dtype"]
    shape = _numbers(name, entry["shape"])
    offsets = _numbers(name, entry["data_offsets"])
    if not isinstance(dtype, str) or len(offsets) != 2:
        _refuse(f"tensor {name[:64]!r} needs a named dtype and two data_offsets")
    _check_field(name, dtype, shape)
    start, end = offsets
    if end - start != math.prod(shape) * DTYPES[dtype].itemsize:
        _refuse(f"tensor {name[:64]!r} has {end - start} bytes, which is not its shape's size")
    return TensorSpec(name, dtype, shape, data_start + start, data_start + end)


def _numbers(name: str, value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > DIMENSIONS_MAX:
        _refuse(
            f"tensor {name[:64]!r}: shape and data_offsets are lists of {DIMENSIONS_MAX} at most"
        )
    numbers = tuple(item for item in value if type(item) is int)
    if len(numbers) != len(value):
        _refuse(f"tensor {name[:64]!r}: shape and data_offsets hold whole numbers only")
    return numbers


def _check_field(name: str, dtype: str, shape: tuple[int, ...]) -> None:
    try:
        name_bytes = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        _refuse("a tensor's name is not valid Unicode")
    if name_bytes > NAME_BYTES_MAX or name == METADATA:
        _refuse(f"the tensor name {name[:64]!r} is reserved or over NAME_BYTES_MAX")
    if dtype not in DTYPES:
        _refuse(f"tensor {name[:64]!r} has the unknown dtype {dtype[:16]!r}")
    if len(shape) > DIMENSIONS_MAX or any(not 0 <= side <= DIMENSION_MAX for side in shape):
        _refuse(f"tensor {name[:64]!r} has a dimension over DIMENSION_MAX or too many of them")
    # Zero sides do not make the others harmless: numpy multiplies those as well.
    if math.prod(side for side in shape if side) * DTYPES[dtype].itemsize > TENSOR_BYTES_MAX:
        _refuse(f"tensor {name[:64]!r} is over TENSOR_BYTES_MAX")


def _check_cover(tensors: list[TensorSpec], data_start: int, size: int) -> None:
    place = data_start
    for spec in sorted(tensors, key=lambda spec: (spec.start, spec.end)):
        if spec.start != place:
            _refuse(f"tensor {spec.name[:64]!r} leaves a gap or overlaps another")
        place = spec.end
    if place != size:
        _refuse(f"the tensors end at byte {place}, the file at {size}")
