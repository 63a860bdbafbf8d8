"""Reads and writes numpy's `.npz` archives: without pickle, and never more than the headers allow.

Three lies are possible: the directory (how many members, how long), a member's compression (more comes out
than was said) and an array's header (a shape that its bytes do not fill). Each is checked before memory is
taken for it. Archives over 2 GiB are not read: they need another form of the directory. Sources: the `.npy`
format 1.0 to 3.0 (numpy.lib.format) and PKWARE's APPNOTE 6.3.
"""

import math
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, NoReturn

import numpy as np
from fedbus_schemas.models import TENSORS_MAX

from fedbus._tensorfile import DIMENSION_MAX, DIMENSIONS_MAX, NAME_BYTES_MAX, Array, dtype_name
from fedbus.errors import BadModel
from fedbus.helpers import limits

SUFFIX = ".npy"
DIRECTORY_BYTES_MAX = TENSORS_MAX * 256
HEADER_BYTES_MAX = 64 * 1024
CHUNK_BYTES = 1024 * 1024

_END = struct.Struct("<4s4H2LH")
_LOCATOR = b"PK\x06\x07"
_LOCATOR_BYTES = 20
_MAGIC = b"\x93NUMPY"
_HEADER = re.compile(
    rb"\{\s*'descr':\s*'(?P<type>[<>|=]?[fiub][1248])',\s*'fortran_order':\s*(?P<fortran>True|False),"
    rb"\s*'shape':\s*\((?P<shape>(?:\s*\d{1,19}\s*,)*\s*(?:\d{1,19})?\s*)\),?\s*\}\s*"
)
_BROKEN = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    EOFError,
    OSError,
    NotImplementedError,  # a compression that zipfile does not know
    RuntimeError,  # an encrypted member
    ValueError,
    struct.error,
)


def read(
    path: Path, like: Mapping[str, Array], rename: Callable[[str], str] = lambda name: name
) -> dict[str, Array]:
    """Read an archive's arrays, by the names that `rename` gives to theirs, in the archive's order.

    With `like`, the names and shapes must be its own. Raises `BadModel`, whatever the bytes.
    """
    try:
        with path.open("rb") as file:
            _check_end(file)
            file.seek(0)
            with zipfile.ZipFile(file) as archive:
                return _arrays(archive, like, rename)
    except _BROKEN as error:
        raise BadModel(f"not an npz archive that fedbus reads: {error}") from error
    except MemoryError as error:
        raise BadModel("the archive's arrays do not fit into memory") from error


def write(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write what `numpy.savez_compressed` would, byte for byte, under any names.

    Raises `BadResult` for an array that is not of numbers: numpy would pickle it.
    """
    for name, array in arrays.items():
        dtype_name(name, array)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, allowZip64=True) as archive:
        for name, array in arrays.items():
            with archive.open(name + SUFFIX, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def _check_end(file: IO[bytes]) -> None:
    """Look at the end of the archive before its directory is read: that costs memory for each member."""
    size = file.seek(0, 2)
    back = min(size, _END.size + _LOCATOR_BYTES)
    file.seek(size - back)
    tail = file.read(back)
    if len(tail) < _END.size:
        _refuse("it is too short")
    signature, _, _, _, count, directory, _, comment = _END.unpack(tail[-_END.size :])
    if signature != b"PK\x05\x06" or comment != 0 or tail.startswith(_LOCATOR):
        _refuse("it does not end as numpy ends one, or is over 2 GiB")
    if count > TENSORS_MAX or directory > DIRECTORY_BYTES_MAX:
        _refuse(f"{count} members in {directory} bytes of directory, over TENSORS_MAX")


def _arrays(
    archive: zipfile.ZipFile, like: Mapping[str, Array], rename: Callable[[str], str]
) -> dict[str, Array]:
    members: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        if not member.filename.endswith(SUFFIX) or member.flag_bits & 1:
            _refuse(f"member {member.filename[:64]!r} is not a plain {SUFFIX} file")
        name = rename(member.filename.removesuffix(SUFFIX))
        if name in members or len(name.encode()) > NAME_BYTES_MAX:
            _refuse(f"the name {name[:64]!r} stands twice or is too long")
        members[name] = member
    limits.check_names(members, like)
    left = limits.content_bytes_max(like)
    found: dict[str, Array] = {}
    for name, member in members.items():
        left -= max(0, member.file_size - HEADER_BYTES_MAX)
        if left < 0:
            _refuse("the arrays have more bytes than they may have")
        with archive.open(member) as content:
            found[name] = _array(name, content, member.file_size, like)
    return found


def _array(name: str, content: IO[bytes], member_bytes: int, like: Mapping[str, Array]) -> Array:
    kind, shape, is_fortran, header_bytes = _header(name, content)
    limits.check_shape(name, shape, like)
    size = math.prod(shape) * kind.itemsize
    if size != member_bytes - header_bytes:
        _refuse(
            f"array {name[:64]!r} has {member_bytes - header_bytes} bytes, not its shape's {size}"
        )
    data = bytearray()
    while chunk := content.read(CHUNK_BYTES):
        data += chunk
        if len(data) > size:
            _refuse(f"array {name[:64]!r} unpacks to more than its {size} bytes")
    if len(data) != size:
        _refuse(f"array {name[:64]!r} ends early")
    raw = np.dtype(np.uint8) if kind.kind == "b" else kind
    flat = np.frombuffer(data, raw) if size else np.empty(0, raw)
    native = flat.astype(np.bool_ if kind.kind == "b" else kind.newbyteorder("="), copy=False)
    return native.reshape(shape, order="F" if is_fortran else "C")


def _header(
    name: str, content: IO[bytes]
) -> tuple[np.dtype[np.generic], tuple[int, ...], bool, int]:
    start = content.read(8)
    if start[:6] != _MAGIC or len(start) < 8 or start[6] not in (1, 2, 3):
        _refuse(f"array {name[:64]!r} does not begin as numpy writes one")
    length_bytes = 2 if start[6] == 1 else 4
    length = int.from_bytes(content.read(length_bytes), "little")
    if length > HEADER_BYTES_MAX:
        _refuse(f"array {name[:64]!r} has a header of {length} bytes")
    found = _HEADER.fullmatch(content.read(length))
    if found is None:
        _refuse(f"array {name[:64]!r} is not an array of plain numbers (objects are never read)")
    shape = tuple(int(side) for side in found["shape"].split(b",") if side.strip())
    if len(shape) > DIMENSIONS_MAX or any(side > DIMENSION_MAX for side in shape):
        _refuse(f"array {name[:64]!r} has too many dimensions or too large a one")
    try:
        kind: np.dtype[np.generic] = np.dtype(found["type"].decode())
    except TypeError:
        _refuse(f"array {name[:64]!r} has the element type {found['type'].decode()}")
    return kind, shape, found["fortran"] == b"True", 8 + length_bytes + length


def _refuse(why: str) -> NoReturn:
    raise BadModel(f"not an npz archive that fedbus reads: {why}")
