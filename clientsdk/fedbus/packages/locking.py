"""A lock between the clients of one machine: a file that one of them holds."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fedbus import _files
from fedbus.errors import TaskAborted

LOOK_S = 0.2


@contextmanager
def locked(path: Path, cancelled: Callable[[], bool]) -> Iterator[None]:
    """Hold a file's lock. Raises `TaskAborted` when the task is withdrawn while another holds it."""
    import fcntl  # not on every system: the rest of the SDK runs there

    path.parent.mkdir(mode=_files.FOLDER_MODE, parents=True, exist_ok=True)
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if cancelled():
                    raise TaskAborted(
                        "the task was withdrawn while another client was busy"
                    ) from None
                time.sleep(LOOK_S)  # flock has no wait that a withdrawal could end
        yield
