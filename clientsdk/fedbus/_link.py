"""How large a piece this link carries: grows while pieces get through, shrinks when one breaks off.

What breaks off is sent again, so on a link that is cut after every n bytes a piece must be far smaller
than n. What was learned is kept in a file, for a client that is killed as often as its link.
"""

import json
import logging
from pathlib import Path

from fedbus_schemas.pieces import PIECE_BYTES_MAX, PIECE_BYTES_MIN

from fedbus import _files

log = logging.getLogger("fedbus")

FIRST_BYTES = 512 * 1024
SHRINK = 16
"""A piece after a break is this many times smaller than the one that broke."""
STEADY = 64
"""After a break, so many pieces in a row must get through before they become larger again."""
FILE_BYTES_MAX = 1024


class Link:
    """What is known of the link to the object store. With a file, also by the next process."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._piece = _read(file)
        self._broke = self._piece is not None
        self._steady = 0

    @property
    def piece_bytes(self) -> int:
        """How large the next piece should be."""
        return FIRST_BYTES if self._piece is None else self._piece

    @property
    def whole_bytes_max(self) -> int:
        """Up to which length a blob goes up in one."""
        return self.piece_bytes if self._broke else PIECE_BYTES_MAX

    def lengths(self, size: int, least: int, most: int, count: int) -> list[int]:
        """Plan the next pieces of `size` bytes that are left, at most `count` of them."""
        planned: list[int] = []
        piece = self.piece_bytes
        while size and len(planned) < count:
            length = min(size, max(least, min(piece, most)))
            planned.append(length)
            size -= length
            if not self._broke:
                piece *= 2
        return planned

    def carried(self) -> None:
        """A piece got through."""
        self._steady += 1
        if not self._broke or self._steady >= STEADY:
            self._piece = min(2 * self.piece_bytes, PIECE_BYTES_MAX)
            self._steady = 0

    def broke(self, length: int) -> None:
        """The link broke while it carried a piece of this length."""
        self._piece = max(PIECE_BYTES_MIN, min(self.piece_bytes, length // SHRINK))
        self._broke, self._steady = True, 0
        if self._file is None:
            return
        try:
            _files.write(self._file, json.dumps({"piece_bytes": self._piece}).encode())
        except OSError as error:
            log.warning("cannot remember in %s what the link carries: %s", self._file, error)


def _read(file: Path | None) -> int | None:
    try:
        if file is None or file.stat().st_size > FILE_BYTES_MAX:
            return None
        known: object = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
    piece: object = known.get("piece_bytes") if isinstance(known, dict) else None
    if not isinstance(piece, int) or not PIECE_BYTES_MIN <= piece <= PIECE_BYTES_MAX:
        return None
    return piece
