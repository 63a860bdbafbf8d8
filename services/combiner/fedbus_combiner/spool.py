"""Checked updates on the local disk, for rules that read all of them again block by block."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Spooled:
    """One update's file: what was hashed and checked is what is read again."""

    path: Path

    def write(self, data: bytes | bytearray) -> None:
        """Write the update."""
        self.path.write_bytes(data)

    def read_at(self, offset: int, length: int) -> bytes:
        """Read a part of it."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            return os.pread(descriptor, length, offset)
        finally:
            os.close(descriptor)
