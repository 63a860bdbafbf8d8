"""Files of models and packages on this machine."""

import base64
import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, TypeAlias

from fedbus_schemas.codec import Unreadable, read
from fedbus_schemas.envelope import Entry
from fedbus_schemas.views import LoggedEvent, StoredEntry

from fedbus import _files, _tensorfile
from fedbus.api.errors import BadAnswer
from fedbus.errors import BadOption
from fedbus.helpers import find

PIECE_BYTES = 1024 * 1024
TENSOR_FILE = ".safetensors"
SUFFIXES = {".npz": "numpyhelper", ".bin": "binaryhelper"}
"""Which helper a file's name says, as FEDn has it."""

Progress: TypeAlias = Callable[[int, int], None]
"""Is told of a transfer: how many bytes went, and how many there are (0 = unknown)."""


class Arriving:
    """A file that comes in: it is there whole and with the right SHA-256, or not at all."""

    def __init__(self, path: Path, digest: str, what: str) -> None:
        self._path = path
        self._beside = path.with_name(path.name + _files.NEW)
        self._digest = digest
        self._what = what
        self._seen = hashlib.sha256()
        self._file: BinaryIO | None = None
        self.size = 0

    def __enter__(self) -> Self:
        self._file = self._beside.open("wb")
        return self

    def add(self, piece: bytes) -> None:
        """Write a piece."""
        assert self._file is not None, "it is entered first"
        self._seen.update(piece)
        self._file.write(piece)
        self.size += len(piece)

    def finish(self) -> Path:
        """Put the file in its place. Raises `BadAnswer` if the bytes are not the ones that were asked for."""
        assert self._file is not None, "it is entered first"
        self._file.close()
        found = self._seen.hexdigest()
        if found != self._digest:
            detail = f"{self._what} {self._digest}: the bytes that came have the SHA-256 {found}"
            raise BadAnswer(detail)
        _files.move(self._beside, self._path)
        return self._path

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()
        self._beside.unlink(missing_ok=True)


def open_model(path: Path, helper: str) -> tuple[BinaryIO, int]:
    """Open a model's file as a tensor file, and give its size. Raises `BadOption`, or `BadModel`."""
    if path.suffix == TENSOR_FILE and not helper:
        return open_file(path)
    reader = helper or SUFFIXES.get(path.suffix, "")
    if not reader:
        raise BadOption(f"the name of {path} does not say what it is; name a helper")
    _check(path)
    content = _tensorfile.write(find(reader).from_file(path, {}))
    return io.BytesIO(content), len(content)


def open_file(path: Path) -> tuple[BinaryIO, int]:
    """Open a file, and give its size. Raises `BadOption`."""
    _check(path)
    return path.open("rb"), path.stat().st_size


def sha256(path: Path) -> str:
    """Give the SHA-256 of a file."""
    _check(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def entry_events(session: str, line: str) -> list[LoggedEvent]:
    """Read the events of a log entry as the api keeps it for the audit. Raises `BadAnswer`."""
    try:
        stored = read(StoredEntry, line)
        entry = read(Entry, base64.b64decode(stored.data))
    except (Unreadable, ValueError) as error:
        raise BadAnswer(f"the log of {session} cannot be read: {error}") from error
    return [
        LoggedEvent(
            session=entry.session,
            number=entry.number,
            sequence=stored.sequence,
            time=stored.time,
            type=event.type,
            data=event.data,
        )
        for event in entry.events
    ]


def _check(path: Path) -> None:
    if not path.is_file():
        raise BadOption(f"{path} is no file")
