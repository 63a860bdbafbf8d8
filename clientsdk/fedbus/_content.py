"""Bytes to be sent: in memory, or in a file that is never read whole."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

CHUNK_BYTES = 64 * 1024


class ContentGone(Exception):
    """The file cannot be read, or is too short."""


@dataclass(frozen=True, slots=True)
class FilePart:
    """A part of a file."""

    path: Path
    start: int
    size: int


Content: TypeAlias = bytes | bytearray | memoryview | FilePart


def size_of(content: Content) -> int:
    """Give the length in bytes."""
    return content.size if isinstance(content, FilePart) else len(content)


def part_of(content: Content, start: int, size: int) -> Content:
    """Give a part, without reading or copying it."""
    if isinstance(content, FilePart):
        return FilePart(content.path, content.start + start, size)
    return memoryview(content)[start : start + size]


def chunks(content: Content) -> Iterator[bytes | bytearray | memoryview]:
    """Yield the bytes in small chunks. Raises `ContentGone`."""
    if not isinstance(content, FilePart):
        view = memoryview(content)
        for start in range(0, len(view), CHUNK_BYTES):
            yield view[start : start + CHUNK_BYTES]
        return
    left = content.size
    try:
        with content.path.open("rb", buffering=0) as file:
            file.seek(content.start)
            while left and (data := file.read(min(CHUNK_BYTES, left))):
                left -= len(data)
                yield data
    except OSError as error:
        raise ContentGone(str(error)) from error
    if left:
        raise ContentGone(f"{content.path} is {left} bytes too short")


def digest_of(content: Content) -> str:
    """Give the SHA-256. Raises `ContentGone`."""
    digest = hashlib.sha256()
    for chunk in chunks(content):
        digest.update(chunk)
    return digest.hexdigest()
