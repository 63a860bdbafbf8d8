"""Updates that go up in pieces: each an immutable blob of its own, named by its SHA-256.

A piece is stored once or not at all, so an upload continues behind the last one, however it was cut off.
What lies there is the only state of an upload; whoever reads the update reads its pieces one after another.
Their sizes are the client's to choose, within limits: a link that breaks often carries small ones only.
"""

from typing import Annotated

from pydantic import Field

from fedbus_schemas.models import BlobRef

PIECES_MAX = 2048
"""No update has more pieces."""
PIECE_BYTES_MIN = 256 * 1024
"""No piece but the last is smaller."""
PIECE_BYTES_MAX = 16 * 1024 * 1024
"""No piece is larger, unless the update could not go up in `PIECES_MAX` of them."""
PIECES_ASKED_MAX = 16
"""Pieces in one request."""


class Piece(BlobRef):
    """A piece: its own SHA-256 and length, and where in the update it begins."""

    start: Annotated[int, Field(ge=0)]


def piece_bytes_min(size: int) -> int:
    """Give the least length of a piece, but the last, of an update of `size` bytes."""
    return max(PIECE_BYTES_MIN, -(-size // (PIECES_MAX - 1)))


def piece_bytes_max(size: int) -> int:
    """Give the greatest length of a piece of an update of `size` bytes."""
    return max(PIECE_BYTES_MAX, piece_bytes_min(size))
