"""Locks between the clients of one machine: files that one of them holds, or several share."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from fedbus import _files
from fedbus.errors import TaskAborted

LOOK_S = 0.2


@contextmanager
def locked(path: Path, cancelled: Callable[[], bool]) -> Iterator[None]:
    """Hold a file's lock alone. Raises `TaskAborted` when the task is withdrawn while another holds it."""
    with _open(path) as file:
        _wait(file, cancelled, alone=True)
        yield


def shared(path: Path, cancelled: Callable[[], bool]) -> IO[str]:
    """Share a file's lock until what is given is closed, and note the time. Raises as `locked` does."""
    file = _open(path)
    _wait(file, cancelled, alone=False)
    os.utime(path)
    return file


@contextmanager
def locked_if_free(path: Path) -> Iterator[bool]:
    """Hold a file's lock alone if nobody else holds or shares it; says whether."""
    with _open(path) as file:
        yield _try(file, alone=True)


def _open(path: Path) -> IO[str]:
    path.parent.mkdir(mode=_files.FOLDER_MODE, parents=True, exist_ok=True)
    return path.open("a")


def _wait(file: IO[str], cancelled: Callable[[], bool], *, alone: bool) -> None:
    while not _try(file, alone=alone):
        if cancelled():
            file.close()
            raise TaskAborted("the task was withdrawn while another client was busy")
        time.sleep(LOOK_S)  # flock has no wait that a withdrawal could end


def _try(file: IO[str], *, alone: bool) -> bool:
    import fcntl  # not on every system: the rest of the SDK runs there

    try:
        fcntl.flock(file, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
