"""Tar headers with one form only: POSIX ustar, read-only regular files, owner, group and time zero.

Every byte of a header follows from the member's name and size, so a reader renders the header anew and
compares: there is no byte in which anything could hide.
"""

from typing import Final

BLOCK: Final = 512
NAME_MAX: Final = 100
PREFIX_MAX: Final = 155
MEMBER_BYTES_MAX: Final = 8**11 - 1
"""Eleven octal digits: just below 8 GiB."""
END: Final = bytes(2 * BLOCK)
"""What closes an archive."""

_SIZE = slice(124, 136)
_PREFIX = slice(345, 500)


def header(name: str, size: int) -> bytes:
    """Render a member's header. Raises `ValueError` for a name or size that has none."""
    prefix, _, base = ("", "", name) if len(name) <= NAME_MAX else name.rpartition("/")
    if not (name.isascii() and name.isprintable() and base) or len(base) > NAME_MAX:
        raise ValueError(f"{name[:200]!r} is not a name for a member")
    if len(prefix) > PREFIX_MAX:
        raise ValueError(f"the name {name[:200]!r} is too long for a member")
    if not 0 <= size <= MEMBER_BYTES_MAX:
        raise ValueError(f"{name}: {size} bytes, a member holds {MEMBER_BYTES_MAX} at most")
    before = (
        base.encode().ljust(100, b"\0")
        + b"0000444\0"
        + b"0000000\0" * 2
        + b"%011o\0" % size
        + b"%011o\0" % 0
    )
    after = (
        b"0"
        + bytes(100)
        + b"ustar\x0000"
        + bytes(64)
        + b"0000000\0" * 2
        + prefix.encode().ljust(155, b"\0")
        + bytes(12)
    )
    checksum = sum(before) + sum(after) + 8 * ord(" ")
    return before + b"%06o\0 " % checksum + after


def padding(size: int) -> int:
    """How many zero bytes follow a member's content."""
    return -size % BLOCK


def read_header(block: bytes) -> tuple[str, int]:
    """Read name and size, strictly. Raises `ValueError` when the block is not what `header` renders."""
    digits = block[_SIZE]
    if len(block) != BLOCK or not digits[:11].isdigit() or max(digits[:11]) > ord("7"):
        raise ValueError("this is not a member's header")
    base = block[:NAME_MAX].rstrip(b"\0")
    prefix = block[_PREFIX].rstrip(b"\0")
    try:
        name = (prefix + b"/" + base if prefix else base).decode("ascii")
    except UnicodeDecodeError as error:
        raise ValueError("the member's name is not ASCII") from error
    size = int(digits[:11], 8)
    expected = header(name, size)
    if expected != block:
        raise ValueError(f"byte {first_difference(expected, block)} of the header is wrong")
    return name, size


def first_difference(expected: bytes, found: bytes) -> int:
    """The first place in which two byte strings differ."""
    for place, (one, other) in enumerate(zip(expected, found, strict=False)):
        if one != other:
            return place
    return min(len(expected), len(found))
