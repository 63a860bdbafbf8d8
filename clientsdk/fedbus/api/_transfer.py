"""Files and logs between the api and this machine."""

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path

from fedbus_schemas.codec import Unreadable, read
from fedbus_schemas.envelope import Entry
from fedbus_schemas.models import ModelRef
from fedbus_schemas.views import LoggedEvent, StoredEntry

from fedbus import _files, _tensorfile
from fedbus.api._http import Connection
from fedbus.api.errors import BadAnswer
from fedbus.errors import BadOption
from fedbus.helpers import find

PIECE_BYTES = 1024 * 1024
TENSOR_FILE = ".safetensors"
SUFFIXES = {".npz": "numpyhelper", ".bin": "binaryhelper"}
"""Which helper a file's name says, as FEDn has it."""


def download(http: Connection, digest: str, path: Path) -> Path:
    """Write a model's file. Raises `BadAnswer` if the bytes are not the ones that the digest names."""
    beside = path.with_name(path.name + _files.NEW)
    seen = hashlib.sha256()
    try:
        with http.stream(f"/v1/models/{digest}/download") as response, beside.open("wb") as file:
            for piece in response.iter_bytes(PIECE_BYTES):
                seen.update(piece)
                file.write(piece)
        if seen.hexdigest() != digest:
            raise BadAnswer(
                f"model {digest}: the bytes that came have the SHA-256 {seen.hexdigest()}"
            )
        _files.move(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def upload(http: Connection, path: Path, name: str, helper: str) -> ModelRef:
    """Send a model's file, as a tensor file."""
    if not path.is_file():
        raise BadOption(f"{path} is no file")
    if path.suffix == TENSOR_FILE and not helper:
        return http.upload(ModelRef, "/v1/models", _pieces(path), name)
    reader = helper or SUFFIXES.get(path.suffix, "")
    if not reader:
        raise BadOption(f"the name of {path} does not say what it is; name a helper")
    content = _tensorfile.write(find(reader).from_file(path, {}))
    return http.upload(ModelRef, "/v1/models", iter([content]), name)


def logged(
    http: Connection, session: str, event_type: str | None, n_max: int | None
) -> Iterator[LoggedEvent]:
    """Read the log as the api keeps it for the audit, the oldest entry first."""
    told = 0
    with http.stream(f"/v1/sessions/{session}/audit/log") as response:
        for line in response.iter_lines():
            if n_max is not None and told >= n_max:
                return
            for event in _events(session, line):
                if event_type in (None, event.type) and (n_max is None or told < n_max):
                    told += 1
                    yield event


def _events(session: str, line: str) -> list[LoggedEvent]:
    try:
        stored = read(StoredEntry, line)
        entry = read(Entry, base64.b64decode(stored.data))
    except (Unreadable, ValueError) as error:
        raise BadAnswer(f"the log of {session} cannot be read: {error}") from error
    return [
        LoggedEvent(
            session=entry.session,
            number=entry.number,
            sequence=stored.sequence,
            time=stored.time,
            type=event.type,
            data=event.data,
        )
        for event in entry.events
    ]


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece
