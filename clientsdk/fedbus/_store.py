"""Finished updates, which a client keeps until their receipt.

In a folder, an update's submission is written last, so a file without one is the rest of a crash.
"""

import hashlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from fedbus_schemas.models import BlobRef

from fedbus import _files
from fedbus._content import Content, FilePart
from fedbus._tensorfile import Buffer
from fedbus._updates import Update, UpdateKey, reopen
from fedbus.errors import BadResult

log = logging.getLogger("fedbus")

SUBMISSION_BYTES_MAX = 256 * 1024


class Kept(Protocol):
    """Where finished updates wait for their receipt."""

    def load(self) -> list[Update]:
        """Give what an earlier run left, without the files that ride apart."""

    def keep(self, update: Update) -> Update:
        """Keep an update; give it back without what need not stay in memory."""

    def file(self, update: Update) -> Content:
        """Give the file of an update that does not carry it. Raises `OSError` when it is gone."""

    def drop(self, key: UpdateKey) -> None:
        """Forget an update."""


class KeptInMemory:
    """Updates in memory: the update itself carries its file."""

    def load(self) -> list[Update]:
        """Give nothing: a restart forgets."""
        return []

    def keep(self, update: Update) -> Update:
        """Give the update back with its file in memory."""
        return in_memory(update)

    def file(self, update: Update) -> Content:
        """Raise: an update here carries its file."""
        raise FileNotFoundError(f"the update {update.key} has no file in memory")

    def drop(self, key: UpdateKey) -> None:
        """Do nothing: nothing is held here."""


class KeptInFolder:
    """Updates in a folder, at most `limit` of them when it is read."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = folder / "updates"
        self._limit = limit
        self._folder.mkdir(mode=_files.FOLDER_MODE, parents=True, exist_ok=True)

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
            if path.stem not in names or path.suffix == _files.NEW:
                path.unlink(missing_ok=True)
        return updates

    def keep(self, update: Update) -> Update:
        """Write the update; its file, if it rides apart, need not stay in memory then.

        Raises `OSError`, and `BadResult` when the arrays are not any more what they were.
        """
        name = _name(update.key)
        if update.result is not None:
            parts = update.result.parts()
            _files.write_parts(self._folder / f"{name}.safetensors", _checked(parts, update.blob))
        _files.write(self._folder / f"{name}.json", update.submission)
        return replace(update, result=None)

    def file(self, update: Update) -> Content:
        """Give the update's file, unread."""
        path = self._folder / f"{_name(update.key)}.safetensors"
        if path.stat().st_size != update.blob.size:
            raise FileNotFoundError(f"{path} has not the update's length")
        return FilePart(path, 0, update.blob.size)

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


def in_memory(update: Update) -> Update:
    """Give the update with its file made, if it rides apart."""
    if update.result is None:
        return update
    return replace(update, file=update.result.joined(), result=None)


def _checked(parts: Iterable[Buffer], blob: BlobRef) -> Iterator[Buffer]:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
        yield part
    if digest.hexdigest() != blob.digest:
        raise BadResult("the arrays of the result were changed while they were written")


def _name(key: UpdateKey) -> str:
    return f"{key.session}~{key.round}~{key.attempt}"


def _is(path: Path, blob: BlobRef) -> bool:
    if path.stat().st_size != blob.size:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == blob.digest
