# Written by tools/generate_sync_api.py from _async/transfer.py (make schemas): change that one.
"""Files and logs between the api and this machine."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from fedbus_schemas.views import LoggedEvent

from fedbus.api._asked import M, Scalar
from fedbus.api._files import PIECE_BYTES, Arriving, Progress, entry_events
from fedbus.api._sync.connection import Connection


def download(
    http: Connection,
    where: tuple[str, str],
    path: Path,
    progress: Progress | None,
) -> Path:
    """Write the file of a model or a package (`("models", SHA-256)`), whole or not at all.

    Raises `BadAnswer` if the bytes are not the ones that the SHA-256 names.
    """
    noun, digest = where
    with Arriving(path, digest, noun.removesuffix("s")) as file:
        with http.stream(f"/v1/{noun}/{digest}/download") as response:
            total = int(response.headers.get("content-length", 0))
            for piece in response.iter_bytes(PIECE_BYTES):
                file.add(piece)
                if progress is not None:
                    progress(file.size, total)
        return file.finish()


def upload(
    http: Connection,
    kind: type[M],
    path: str,
    source: tuple[BinaryIO, int],
    params: Mapping[str, Scalar],
    progress: Progress | None,
) -> M:
    """Send an open file, and close it."""
    file, size = source
    with file:
        return http.upload(kind, path, _pieces(file, size, progress), params)


def logged(
    http: Connection, session: str, event_type: str | None, n_max: int | None
) -> Iterator[LoggedEvent]:
    """Read the log as the api keeps it for the audit, the oldest entry first."""
    told = 0
    with http.stream(f"/v1/sessions/{session}/audit/log") as response:
        for line in response.iter_lines():
            for event in entry_events(session, line):
                if n_max is not None and told >= n_max:
                    return
                if event_type in (None, event.type):
                    told += 1
                    yield event


def _pieces(file: BinaryIO, size: int, progress: Progress | None) -> Iterator[bytes]:
    sent = 0
    while piece := file.read(PIECE_BYTES):
        yield piece
        sent += len(piece)
        if progress is not None:
            progress(sent, size)
