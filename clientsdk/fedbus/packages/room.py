"""Keeps the folder of environments, and that of unpacked packages, within a size: the oldest goes first."""

import logging
import shutil
import sys
from collections.abc import Collection
from pathlib import Path

from fedbus.packages import keeper
from fedbus.packages.locking import locked_if_free

log = logging.getLogger("fedbus")

LOCK = ".lock"
GONE = ".gone"
"""What ends the name of a folder that is being removed."""


def make(folder: Path, *, count_max: int, bytes_max: int, spare: Collection[str]) -> list[str]:
    """Remove folders, the one used longest ago first, until the rest is within the limits; names them.

    What `spare` names stays, and so does whatever a client of this machine uses: those share its lock.
    """
    for left in folder.glob(f"*{GONE}"):
        shutil.rmtree(left, ignore_errors=True)
    found = sorted(
        (_used(folder, path.name), path, _size(path)) for path in folder.iterdir() if path.is_dir()
    )
    count, total, removed = len(found), sum(size for _, _, size in found), list[str]()
    for _, path, size in found:
        if count <= count_max and total <= bytes_max:
            break
        if path.name in spare or not _remove(path):
            continue
        log.info("%s: removed, as there is room for %d and %d bytes", path, count_max, bytes_max)
        removed.append(path.name)
        count, total = count - 1, total - size
    return removed


def lock_of(place: Path) -> Path:
    """Give the lock of a folder: who uses it shares it, and its time is that of the last use."""
    return place.with_name(f"{place.name}{LOCK}")


def _remove(path: Path) -> bool:
    with locked_if_free(lock_of(path)) as is_ours:
        if is_ours:
            gone = path.with_name(f"{path.name}{GONE}")
            path.rename(gone)  # so that nobody finds half of it
            shutil.rmtree(gone, ignore_errors=True)
        return is_ours


def _used(folder: Path, name: str) -> float:
    try:
        return lock_of(folder / name).stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _size(folder: Path) -> int:
    return keeper.disk([str(folder)], sys.maxsize)[0]
