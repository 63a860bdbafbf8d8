"""Files: a bundle read at any place, one written whole or not at all, and the file of trusted keys."""

import errno
import os
import tempfile
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path

from fedbus_schemas.codec import Unreadable, read
from fedbus_schemas.ids import PublicKey
from fedbus_schemas.views import TrustView

from fedbus_auditor.errors import BadFile

TRUST_BYTES_MAX = 1024 * 1024


class FileReader:
    """Random access to a file. `on_read` hears of every byte that was read."""

    def __init__(self, path: Path, on_read: Callable[[int], None] = lambda _: None) -> None:
        self.on_read = on_read
        try:
            self._file = path.open("rb")
            self.size = self._file.seek(0, os.SEEK_END)
        except OSError as error:
            raise BadFile(f"{path} cannot be read: {error.strerror}") from error

    def read_at(self, offset: int, length: int) -> bytes:
        """Read `length` bytes; fewer only where the file ends. Raises `BadFile`."""
        try:
            self._file.seek(offset)
            data = self._file.read(min(length, max(0, self.size - offset)))
        except OSError as error:
            raise BadFile(f"{self._file.name} cannot be read: {error.strerror}") from error
        self.on_read(len(data))
        return data

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_trust(path: Path) -> tuple[PublicKey, ...]:
    """Read a file of trusted keys. Raises `BadFile`."""
    try:
        with path.open("rb") as file:
            data = file.read(TRUST_BYTES_MAX)
    except OSError as error:
        raise BadFile(f"{path} cannot be read: {error.strerror}") from error
    form = '{"keys": ["<Ed25519 public key, base64url>", ...]}, as GET /v1/trust gives it'
    try:
        keys = read(TrustView, data).keys
    except Unreadable as error:
        raise BadFile(f"{path} holds no trusted keys ({error}); it must be {form}") from error
    if not keys:
        raise BadFile(f"{path} holds no trusted keys; it must be {form}")
    return keys


def write_whole(path: Path, pieces: Iterable[bytes]) -> tuple[int, str]:
    """Write a file under another name and rename it when it is whole; gives its length and SHA-256.

    Whatever happens, nothing half-written stays. Raises `BadFile`.
    """
    temporary: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", suffix=".part", delete=False
        ) as file:
            temporary = Path(file.name)
            running, size = sha256(), 0
            for piece in pieces:
                running.update(piece)
                size += file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            detail = "the disk is full; free some space or write elsewhere with -o"
            raise BadFile(f"{path} could not be written: {detail}") from error
        raise BadFile(f"{path} could not be written: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return size, running.hexdigest()
