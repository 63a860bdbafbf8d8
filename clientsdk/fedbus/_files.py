"""Files that appear whole or not at all: written beside, synced, then renamed."""

import os
from pathlib import Path

FOLDER_MODE = 0o700
NEW = ".new"
"""What ends the name of a file that is not whole yet."""


def write(path: Path, data: bytes | bytearray) -> None:
    """Write a file. After a crash it is the old one or the new one."""
    beside = path.with_name(path.name + NEW)
    with beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    move(beside, path)


def move(source: Path, target: Path) -> None:
    """Rename a synced file for good."""
    source.replace(target)
    if os.name == "posix":
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
