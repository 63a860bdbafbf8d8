"""Models that are here, by their SHA-256, and one on its way in.

A download is kept as far as it came: the file of a partial download is the bytes from the beginning on, so
that its length says where to continue. It is no model, and does not count as one, before all of it is there
and its hash was checked.
"""

import hashlib
import io
import logging
import os
from contextlib import suppress
from pathlib import Path

from fedbus_schemas.models import BlobRef

from fedbus import _files
from fedbus.errors import BadModel

log = logging.getLogger("fedbus")

PARTIAL = ".part"
"""A folder holds at most one partial download of a client."""
READ_BYTES = 1024 * 1024


class Incoming:
    """A model on its way in, over any number of connections and, with a file, of processes.

    Raises `BadModel` when there is no memory for it.
    """

    def __init__(self, blob: BlobRef, path: Path | None = None) -> None:
        self.digest = blob.digest
        self.size = blob.size
        self.place = 0
        self.path = path
        try:
            self.data = bytearray(blob.size)
        except MemoryError as error:
            detail = f"the model's {blob.size} bytes do not fit into memory"
            raise BadModel(detail) from error
        self._hash = hashlib.sha256()
        self._file: io.FileIO | None = None
        if path is not None:
            self._open(path)

    @property
    def is_full(self) -> bool:
        """Whether as many bytes are here as the model has."""
        return self.place == self.size

    def add(self, data: bytes) -> None:
        """Take the next bytes. There must be room for them."""
        assert self.place + len(data) <= self.size, "more bytes than the model has"
        self.data[self.place : self.place + len(data)] = data
        self.place += len(data)
        self._hash.update(data)
        if self._file is not None:
            try:
                view = memoryview(data)
                while view:
                    view = view[self._file.write(view) :]
            except OSError as error:
                self._forget_file(error)

    def restart(self) -> None:
        """Forget all that came."""
        self.place = 0
        self._hash = hashlib.sha256()
        if self._file is not None:
            try:
                self._file.truncate(0)
                self._file.seek(0)
            except OSError as error:
                self._forget_file(error)

    def is_right(self) -> bool:
        """Whether what came is the model that its digest names."""
        return self.is_full and self._hash.hexdigest() == self.digest

    def close(self, *, synced: bool = False) -> None:
        """Close the file, if there is one. `synced`: it is on the disk then."""
        if self._file is None:
            return
        try:
            if synced:
                os.fsync(self._file.fileno())
            self._file.close()
        except OSError as error:
            self._forget_file(error)
        self._file = None

    def _open(self, path: Path) -> None:
        """Open the file and take what an earlier process left in it."""
        try:
            path.touch(mode=0o600)
            self._file = io.FileIO(path, "r+")
            view = memoryview(self.data)
            while self.place < self.size:
                count = self._file.readinto(view[self.place : self.place + READ_BYTES])
                if not count:
                    break
                self._hash.update(view[self.place : self.place + count])
                self.place += count
            if self._file.read(1):
                self.restart()
        except OSError as error:
            self._forget_file(error)
            self.place, self._hash = 0, hashlib.sha256()

    def _forget_file(self, error: OSError) -> None:
        log.warning("the download is not kept in the cache folder: %s", error)
        if self._file is not None:
            self._file.close()
        if self.path is not None:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)
        self._file = self.path = None


class Models:
    """Models by their SHA-256: the last one in memory, some in a folder if there is one.

    The folder may be shared; `owner` tells apart whose partial download is whose. Used by one job at a time.
    """

    def __init__(
        self, folder: Path | None, count_max: int, bytes_max: int = 2**63, owner: str = ""
    ) -> None:
        self._folder = folder
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._owner = owner
        self._last: tuple[str, bytearray | bytes] | None = None
        if folder is not None:
            folder.mkdir(mode=_files.FOLDER_MODE, parents=True, exist_ok=True)
            for path in folder.glob(f"*{_files.NEW}"):
                path.unlink(missing_ok=True)
            self._tidy(folder)

    def find(self, blob: BlobRef) -> bytes | bytearray | None:
        """Give a model's bytes, if they are here. If not, the last one makes room for the next."""
        last, self._last = self._last, None
        if last is not None and last[0] == blob.digest:
            self._last = last
            return last[1]
        del last
        data = self._stored(blob)
        if data is not None:
            self._last = (blob.digest, data)
        return data

    def incoming(self, blob: BlobRef) -> Incoming:
        """Begin or continue a download. Raises `BadModel`."""
        if self._folder is None:
            return Incoming(blob)
        path = self._folder / f"{blob.digest}.{self._owner}{PARTIAL}"
        for other in self._folder.glob(f"*.{self._owner}{PARTIAL}"):
            if other != path:
                other.unlink(missing_ok=True)
        return Incoming(blob, path)

    def add(self, blob: BlobRef, data: bytes | bytearray, path: Path | None = None) -> None:
        """Remember a model whose bytes are the ones that its name says. `path` holds them already."""
        self._last = (blob.digest, data)
        if self._folder is None:
            return
        target = self._folder / f"{blob.digest}.safetensors"
        try:
            if path is None:
                _files.write(target, data)
            else:
                _files.move(path, target)
            self._tidy(self._folder)
        except OSError as error:
            log.warning("could not keep the model in the cache folder: %s", error)

    def _stored(self, blob: BlobRef) -> bytes | None:
        if self._folder is None:
            return None
        path = self._folder / f"{blob.digest}.safetensors"
        try:
            if path.stat().st_size != blob.size:
                return None
            data = path.read_bytes()
            if hashlib.sha256(data).hexdigest() != blob.digest:
                return None
            os.utime(path)
        except OSError:
            return None
        return data

    def _tidy(self, folder: Path) -> None:
        """Remove the models used longest ago until the rest is within the limits."""
        found = []
        for path in folder.glob("*.safetensors"):
            try:
                stat = path.stat()
            except FileNotFoundError:  # another client's, gone meanwhile
                continue
            found.append((stat.st_mtime_ns, path, stat.st_size))
        used = 0
        for count, (_, path, size) in enumerate(sorted(found, reverse=True), 1):
            used += size
            if count > self._count_max or used > self._bytes_max:
                path.unlink(missing_ok=True)
