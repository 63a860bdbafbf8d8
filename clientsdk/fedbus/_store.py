"""What a client keeps: finished updates until their receipt, and models it may need again.

In a folder, a file appears whole or not at all: it is written beside, synced, then renamed. An update's
submission is written last, so a file without one is the rest of a crash.
"""

import hashlib
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from fedbus_schemas.models import BlobRef

from fedbus._updates import Update, UpdateKey, reopen

log = logging.getLogger("fedbus")

SUBMISSION_BYTES_MAX = 256 * 1024
FOLDER_MODE = 0o700


class Kept(Protocol):
    """Where finished updates wait for their receipt."""

    def load(self) -> list[Update]:
        """Give what an earlier run left, without the files that ride apart."""

    def keep(self, update: Update) -> Update:
        """Keep an update; give it back without what need not stay in memory."""

    def file(self, update: Update) -> bytes:
        """Give the file of an update that does not carry it. Raises `OSError` when it is gone."""

    def drop(self, key: UpdateKey) -> None:
        """Forget an update."""


class KeptInMemory:
    """Updates in memory: the update itself carries its file."""

    def load(self) -> list[Update]:
        """Give nothing: a restart forgets."""
        return []

    def keep(self, update: Update) -> Update:
        """Give the update back as it is."""
        return update

    def file(self, update: Update) -> bytes:
        """Raise: an update here carries its file."""
        raise FileNotFoundError(f"the update {update.key} has no file in memory")

    def drop(self, key: UpdateKey) -> None:
        """Do nothing: nothing is held here."""


class KeptInFolder:
    """Updates in a folder, at most `limit` of them when it is read."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = folder / "updates"
        self._limit = limit
        self._folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)

    def load(self) -> list[Update]:
        """Give the kept updates, newest first come, and remove what is damaged or too many."""
        submissions = sorted(
            self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns, reverse=True
        )
        updates: list[Update] = []
        for path in submissions:
            update = self._open(path)
            if update is None or len(updates) >= self._limit:
                log.warning("removed the kept update %s: damaged or over the limit", path.stem)
                self._remove(path.stem)
            else:
                updates.append(update)
        names = {_name(update.key) for update in updates}
        for path in self._folder.iterdir():
            if path.stem not in names or path.suffix == ".new":
                path.unlink(missing_ok=True)
        return updates

    def keep(self, update: Update) -> Update:
        """Write the update; its file, if it rides apart, need not stay in memory then."""
        name = _name(update.key)
        if update.file is not None:
            _write(self._folder / f"{name}.safetensors", update.file)
        _write(self._folder / f"{name}.json", update.submission)
        return replace(update, file=None)

    def file(self, update: Update) -> bytes:
        """Read the update's file."""
        return (self._folder / f"{_name(update.key)}.safetensors").read_bytes()

    def drop(self, key: UpdateKey) -> None:
        """Remove the update, its submission first."""
        self._remove(_name(key))

    def _remove(self, name: str) -> None:
        for suffix in ("json", "safetensors"):
            (self._folder / f"{name}.{suffix}").unlink(missing_ok=True)

    def _open(self, path: Path) -> Update | None:
        try:
            if path.stat().st_size > SUBMISSION_BYTES_MAX:
                return None
            update = reopen(path.read_bytes())
            if _name(update.key) != path.stem:
                return None
            if not update.rides_along and not _is(path.with_suffix(".safetensors"), update.blob):
                return None
        except (OSError, ValueError):
            return None
        return update


class Models:
    """Models by their SHA-256: the last one in memory, a few in a folder if there is one.

    Used by one job at a time.
    """

    def __init__(self, folder: Path | None, limit: int) -> None:
        self._folder = folder
        self._limit = limit
        self._last: tuple[str, bytearray | bytes] | None = None
        if folder is not None:
            folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            for path in folder.glob("*.new"):
                path.unlink(missing_ok=True)

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

    def add(self, blob: BlobRef, data: bytes | bytearray) -> None:
        """Remember a model whose bytes are the ones that its name says."""
        self._last = (blob.digest, data)
        self._store(blob, data)

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

    def _store(self, blob: BlobRef, data: bytes | bytearray) -> None:
        if self._folder is None:
            return
        try:
            _write(self._folder / f"{blob.digest}.safetensors", data)
            models = sorted(self._folder.glob("*.safetensors"), key=lambda p: p.stat().st_mtime_ns)
            for path in models[: -self._limit]:
                path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("could not keep the model in the cache folder: %s", error)


def _name(key: UpdateKey) -> str:
    return f"{key.session}~{key.round}~{key.attempt}"


def _is(path: Path, blob: BlobRef) -> bool:
    if path.stat().st_size != blob.size:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == blob.digest


def _write(path: Path, data: bytes | bytearray) -> None:
    beside = path.with_name(path.name + ".new")
    with beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
