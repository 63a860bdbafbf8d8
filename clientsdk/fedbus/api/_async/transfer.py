"""Files and logs between the api and this machine."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import BinaryIO

from fedbus_schemas.views import LoggedEvent

from fedbus.api._asked import M, Scalar
from fedbus.api._async.connection import AsyncConnection
from fedbus.api._files import PIECE_BYTES, Arriving, Progress, entry_events


async def download(
    http: AsyncConnection,
    where: tuple[str, str],
    path: Path,
    progress: Progress | None,
) -> Path:
    """Write the file of a model or a package (`("models", SHA-256)`), whole or not at all.

    Raises `BadAnswer` if the bytes are not the ones that the SHA-256 names.
    """
    noun, digest = where
    with Arriving(path, digest, noun.removesuffix("s")) as file:
        async with http.stream(f"/v1/{noun}/{digest}/download") as response:
            total = int(response.headers.get("content-length", 0))
            async for piece in response.aiter_bytes(PIECE_BYTES):
                await asyncio.to_thread(file.add, piece)
                if progress is not None:
                    progress(file.size, total)
        return await asyncio.to_thread(file.finish)


async def upload(
    http: AsyncConnection,
    kind: type[M],
    path: str,
    source: tuple[BinaryIO, int],
    params: Mapping[str, Scalar],
    progress: Progress | None,
) -> M:
    """Send an open file, and close it."""
    file, size = source
    with file:
        return await http.upload(kind, path, _pieces(file, size, progress), params)


async def logged(
    http: AsyncConnection, session: str, event_type: str | None, n_max: int | None
) -> AsyncIterator[LoggedEvent]:
    """Read the log as the api keeps it for the audit, the oldest entry first."""
    told = 0
    async with http.stream(f"/v1/sessions/{session}/audit/log") as response:
        async for line in response.aiter_lines():
            for event in entry_events(session, line):
                if n_max is not None and told >= n_max:
                    return
                if event_type in (None, event.type):
                    told += 1
                    yield event


async def _pieces(file: BinaryIO, size: int, progress: Progress | None) -> AsyncIterator[bytes]:
    sent = 0
    while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
        yield piece
        sent += len(piece)
        if progress is not None:
            progress(sent, size)
