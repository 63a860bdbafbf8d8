"""Unpacks an archive that nobody vouches for: every name, kind and length is checked before it is on the disk.

What comes out are files and folders below one new folder, and nothing else: no links, no devices, no name that
leads out, no more bytes than the limits say. The folder appears whole or not at all.
"""

import bz2
import gzip
import hashlib
import io
import os
import re
import shutil
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NoReturn, TypeAlias

from fedbus import _files
from fedbus.errors import BadPackage
from fedbus.packages.limits import RATIO_FREE_BYTES, ArchiveLimits

MANIFESTS = ("fedbus.yaml", "scaleout.yaml", "fedn.yaml")
"""The manifests, in the order in which they are looked for."""

CHUNK_BYTES = 256 * 1024
HEADER_BYTES_MAX = 1024 * 1024
"""The longest thing that is read at once: long names and other headers of a tar."""
KEPT_BYTES = 2 * 512
"""How far a tar may be stepped back in."""
COMPONENT_BYTES_MAX = 255
TAR_MAGIC_AT = 257
Source: TypeAlias = IO[bytes] | gzip.GzipFile | bz2.BZ2File

_END_OF_ZIP = struct.Struct("<4s4H2LH")
_DRIVE = re.compile(r"[A-Za-z]:")
_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    EOFError,
    OSError,
    ValueError,
    OverflowError,
    RecursionError,
    NotImplementedError,  # a compression that zipfile does not know
    RuntimeError,  # an encrypted member
    struct.error,
)


def digest_of(path: Path) -> str:
    """Give a file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unpack(archive: Path, into: Path, limits: ArchiveLimits | None = None) -> tuple[str, ...]:
    """Unpack a tar.gz, tgz, tar.bz2, tar or zip into a new folder, and name its files.

    Raises `BadPackage`, whatever the bytes; then nothing is left. `into` must not exist.
    """
    beside = into.with_name(into.name + _files.NEW)
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(mode=_files.FOLDER_MODE, parents=True)
    try:
        with archive.open("rb") as file:
            names = _Unpacking(beside, file, limits or ArchiveLimits()).all()
        beside.rename(into)
    except _BROKEN as error:
        raise BadPackage(f"the archive cannot be unpacked: {error}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return names


def root_of(folder: Path) -> Path:
    """Find where a package's manifest lies: in the folder, or in the first of its folders that has one.

    FEDn packs a folder `client` as a whole, so its archives have their files one folder deeper.
    """
    level = [folder]
    while level:
        for place in level:
            if any((place / name).is_file() for name in MANIFESTS):
                return place
        level = [inner for place in level for inner in sorted(place.iterdir()) if inner.is_dir()]
    raise BadPackage(f"the package holds none of {', '.join(MANIFESTS)}")


class _Unpacking:
    """One archive on its way into a folder."""

    def __init__(self, folder: Path, file: IO[bytes], limits: ArchiveLimits) -> None:
        self._folder = folder
        self._file = file
        self._limits = limits
        self._size = file.seek(0, os.SEEK_END)
        file.seek(0)
        if self._size > limits.archive_bytes_max:
            _refuse(
                f"it has {self._size} bytes, over archive_bytes_max = {limits.archive_bytes_max}"
            )
        self._bytes_max = min(
            limits.bytes_max, max(RATIO_FREE_BYTES, limits.ratio_max * self._size)
        )
        self._files: dict[str, str] = {}
        self._folders: set[str] = set()
        self._members = 0

    def all(self) -> tuple[str, ...]:
        """Unpack all of it."""
        magic = self._file.read(TAR_MAGIC_AT + 5)
        self._file.seek(0)
        if magic.startswith(b"PK\x03\x04"):
            self._zip()
        elif magic.startswith(b"\x1f\x8b"):
            with gzip.GzipFile(fileobj=self._file) as unpacked:
                self._tar(unpacked)
        elif magic.startswith(b"BZh"):
            with bz2.BZ2File(self._file) as unpacked:
                self._tar(unpacked)
        elif magic[TAR_MAGIC_AT:] == b"ustar":
            self._tar(self._file)
        else:
            _refuse("it is no tar.gz, tgz, tar.bz2, tar or zip")
        if not self._files:
            _refuse("it holds no file")
        return tuple(sorted(self._files.values()))

    def _tar(self, content: Source) -> None:
        # The headers and the padding of small files count too.
        allowed = self._bytes_max + (self._limits.files_max + 2) * 4096
        counted = _Counted(content, allowed)
        with tarfile.open(fileobj=counted, mode="r:") as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # else it keeps all of them
                if member.issparse() or not (member.isreg() or member.isdir()):
                    _refuse(f"{_shown(member.name)} is a link, a device or another special file")
                self._enter(member.name, is_folder=member.isdir(), size=member.size)
                if member.isreg():
                    inner = archive.extractfile(member)
                    assert inner is not None, "a regular file has content"
                    self._write(member.name, inner, member.size, runs=bool(member.mode & 0o100))

    def _zip(self) -> None:
        self._check_directory()
        with zipfile.ZipFile(self._file) as archive:
            for member in archive.infolist():
                mode = member.external_attr >> 16
                kind = stat.S_IFMT(mode)
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or member.flag_bits & 1:
                    _refuse(f"{_shown(member.filename)} is a link, a device or encrypted")
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    _refuse(f"{_shown(member.filename)} is compressed in an unusual way")
                name = member.orig_filename
                self._enter(name, is_folder=member.is_dir(), size=member.file_size)
                if not member.is_dir():
                    with archive.open(member) as inner:
                        self._write(name, inner, member.file_size, runs=bool(mode & 0o100))

    def _check_directory(self) -> None:
        """Bound a zip's directory before it is read: it costs memory for each member."""
        tail_bytes = min(self._size, _END_OF_ZIP.size + 0xFFFF)
        self._file.seek(self._size - tail_bytes)
        tail = self._file.read(tail_bytes)
        place = tail.rfind(b"PK\x05\x06")
        if place < 0 or len(tail) - place < _END_OF_ZIP.size:
            _refuse("the zip has no end of its directory")
        _, _, _, _, count, directory_bytes, start, _ = _END_OF_ZIP.unpack_from(tail, place)
        if count > self._limits.files_max or start == 0xFFFFFFFF:
            _refuse(f"the zip lists {count} members, over files_max = {self._limits.files_max}")
        if directory_bytes > self._limits.files_max * (self._limits.name_bytes_max + 256):
            _refuse(f"the zip's directory has {directory_bytes} bytes")
        self._file.seek(0)

    def _enter(self, name: str, *, is_folder: bool, size: int) -> None:
        """Check a member and note it. Raises `BadPackage`."""
        self._members += 1
        if self._members > self._limits.files_max:
            _refuse(f"it holds over files_max = {self._limits.files_max} files and folders")
        parts = self._parts(name)
        for folder in _above(parts, include_last=is_folder):
            if folder in self._files:
                _refuse(f"{_shown(name)} lies in a file")
            self._folders.add(folder)
        if is_folder:
            return
        key = _key(parts)
        if key in self._files or key in self._folders:
            _refuse(f"{_shown(name)} is there twice")
        self._bytes_max -= size
        if size < 0 or self._bytes_max < 0:
            _refuse(
                f"unpacked it has more than the {self._limits.bytes_max} bytes (bytes_max) or "
                f"{self._limits.ratio_max} times its size (ratio_max) that it may have"
            )
        self._files[key] = "/".join(parts)

    def _parts(self, name: str) -> tuple[str, ...]:
        """Cut a name into its parts. Raises `BadPackage` for one that could lead anywhere else."""
        if len(name.encode("utf-8", "surrogatepass")) > self._limits.name_bytes_max:
            _refuse(f"the name {_shown(name)} is over {self._limits.name_bytes_max} bytes long")
        if not name.isprintable() or "\\" in name or _DRIVE.match(name) or name.startswith("/"):
            _refuse(f"the name {_shown(name)} is absolute or holds unusual characters")
        parts = tuple(part for part in name.split("/") if part not in ("", "."))
        if not parts and name.strip("/") not in ("", "."):
            _refuse(f"the name {_shown(name)} is empty")
        if ".." in parts or any(len(part.encode()) > COMPONENT_BYTES_MAX for part in parts):
            _refuse(f"the name {_shown(name)} leads out of the package or is too long")
        if len(parts) > self._limits.depth_max:
            _refuse(f"{_shown(name)} lies over depth_max = {self._limits.depth_max} folders deep")
        return parts

    def _write(self, name: str, content: IO[bytes], size: int, *, runs: bool) -> None:
        parts = self._parts(name)
        if not parts:
            _refuse("a file has no name")
        target = self._folder.joinpath(*parts)
        target.parent.mkdir(mode=_files.FOLDER_MODE, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        written = 0
        with open(os.open(target, flags, 0o700 if runs else 0o600), "wb") as file:
            while chunk := content.read(CHUNK_BYTES):
                written += len(chunk)
                if written > size:
                    break
                file.write(chunk)
        if written != size:
            _refuse(f"{_shown(name)} does not have the {size} bytes that it says")


class _Counted(io.BufferedIOBase):
    """A stream that may give so many bytes and no more, and never much at once. Goes forward only.

    `tarfile` steps back by a few bytes: what was read last is kept for it.
    """

    def __init__(self, content: Source, bytes_max: int) -> None:
        self._content = content
        self._bytes_max = bytes_max
        self._read = 0
        self._place = 0
        self._last = b""

    def readable(self) -> bool:
        """It can be read."""
        return True

    def read(self, size: int | None = -1) -> bytes:
        """Read; all at once only what is short."""
        if size is None or not 0 <= size <= HEADER_BYTES_MAX:
            _refuse(f"a header of {size} bytes")
        data = b""
        if self._place < self._read:
            start = len(self._last) - (self._read - self._place)
            data = self._last[start : start + size]
        if len(data) < size:
            more = self._content.read(size - len(data))
            self._read += len(more)
            self._last = (self._last + more)[-KEPT_BYTES:]
            data += more
        self._place += len(data)
        if self._read > self._bytes_max:
            _refuse("unpacked it has more bytes than it may have")
        return data

    def tell(self) -> int:
        """Say how far we are."""
        return self._place

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        """Go on to a place, or back to one just passed."""
        if whence != os.SEEK_SET or place < self._read - len(self._last):
            _refuse("its members overlap")
        self._place = min(place, self._read)
        while self._place < place:
            if not self.read(min(CHUNK_BYTES, place - self._place)):
                break
        return self._place


def _above(parts: tuple[str, ...], *, include_last: bool) -> Iterator[str]:
    count = len(parts) + 1 if include_last else len(parts)
    for end in range(1, count):
        yield _key(parts[:end])


def _key(parts: tuple[str, ...]) -> str:
    """Name a place so that two names that some file system takes for one are one."""
    return unicodedata.normalize("NFC", "/".join(parts)).casefold()


def _shown(name: str) -> str:
    return repr(name[:80])


def _refuse(why: str) -> NoReturn:
    raise BadPackage(f"the archive is refused: {why}")
