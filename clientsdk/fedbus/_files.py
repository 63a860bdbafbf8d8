"""Files that appear whole or not at all: written beside, synced, then renamed."""

import os
from collections.abc import Iterable
from pathlib import Path

FOLDER_MODE = 0o700
PRIVATE_MODE = 0o600
NEW = ".new"
"""What ends the name of a file that is not whole yet."""


def write(path: Path, data: bytes | bytearray) -> None:
    """Write a file. After a crash it is the old one or the new one."""
    write_parts(path, [data])


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner can read, from its first byte on."""
    beside = path.with_name(path.name + NEW)
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_MODE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    move(beside, path)


def write_parts(path: Path, parts: Iterable[bytes | bytearray | memoryview]) -> None:
    """Write a file of these parts, one after another."""
    beside = path.with_name(path.name + NEW)
    with beside.open("wb") as file:
        for part in parts:
            file.write(part)
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
