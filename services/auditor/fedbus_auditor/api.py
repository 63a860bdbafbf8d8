"""Reads one session's audit material from the api."""

import base64
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, TypeAlias

import httpx
from fedbus_schemas.codec import Unreadable, read
from fedbus_schemas.ids import PublicKey
from fedbus_schemas.views import StoredEntry, TrustView
from fedbus_schemas.wire import Message

from fedbus_auditor.errors import ApiFailed, BadFile

TIMEOUT = httpx.Timeout(60.0, connect=10.0)
PIECE_BYTES = 1024 * 1024
LOCAL = "api.json"
"""Where a local stack writes down its api, in FEDBUS_DIR (or `.fedbus`): `{"url": …, "token_file": …}`."""

Absence: TypeAlias = Literal["pruned", "missing"]


@dataclass(frozen=True, slots=True)
class Access:
    """Where the api is, and the file that holds the bearer token, if it asks for one."""

    url: str
    token_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored message: its place in its stream, and its bytes."""

    sequence: int
    data: bytes


@dataclass(frozen=True, slots=True)
class FoundBlob:
    """A blob on its way: its length as the api says it, if it does, and its bytes."""

    size: int | None
    pieces: Iterator[bytes]


class _LocalAccess(Message):
    url: str
    token_file: str | None = None


def default_api() -> Access | None:
    """Find the api: `FEDBUS_API_URL` and `FEDBUS_API_TOKEN_FILE`, or what a local stack wrote down."""
    url, token_file = os.environ.get("FEDBUS_API_URL"), os.environ.get("FEDBUS_API_TOKEN_FILE")
    local: Access | None = None
    try:
        file = Path(os.environ.get("FEDBUS_DIR", ".fedbus")) / LOCAL
        given = read(_LocalAccess, file.read_bytes())
        local = Access(given.url, Path(given.token_file) if given.token_file else None)
    except (OSError, Unreadable):
        pass
    if url:
        return Access(url, Path(token_file) if token_file else None)
    if local is not None and token_file:
        return Access(local.url, Path(token_file))
    return local


class Api:
    """The api's audit routes for one session. Use it as a context manager."""

    def __init__(
        self,
        access: Access,
        project: str,
        session: str,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        headers = {"accept-encoding": "identity"}  # so that a blob is as long as its header says
        if access.token_file is not None:
            try:
                token = access.token_file.read_text().strip()
            except (OSError, UnicodeDecodeError) as error:
                raise BadFile(f"the token file {access.token_file} cannot be read") from error
            headers["authorization"] = f"Bearer {token}"
        self._session = session
        self._url = access.url
        try:
            self._http = httpx.Client(
                base_url=access.url.rstrip("/"),
                headers=headers,
                params={"project": project},
                timeout=TIMEOUT,
                transport=transport,
            )
        except httpx.InvalidURL as error:
            raise ApiFailed(f"{access.url!r} is not the address of an api: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def trust(self) -> tuple[PublicKey, ...]:
        """The controllers' public keys, sorted."""
        with self._get("/v1/trust") as response:
            response.read()
            try:
                return tuple(sorted(set(read(TrustView, response.content).keys)))
            except Unreadable as error:
                raise ApiFailed(f"{self._url}/v1/trust gave no keys: {error}") from error

    def log(self) -> Iterator[Stored]:
        """The session's entries, in order."""
        return self._lines("log")

    def heads(self) -> Iterator[Stored]:
        """The session's signed heads."""
        return self._lines("heads")

    def updates(self, round_number: int, attempt: int) -> Iterator[Stored]:
        """The stored updates of an attempt."""
        return self._lines(f"updates/{round_number}/{attempt}")

    @contextmanager
    def blob(self, key: str) -> Iterator[FoundBlob | Absence]:
        """Open a blob, or say that it was deleted by rule or is not there."""
        path = f"/v1/sessions/{self._session}/audit/blobs/{key}"
        with self._get(path, absent=(404, 410)) as response:
            if response.status_code == httpx.codes.GONE:
                yield "pruned"
            elif response.status_code == httpx.codes.NOT_FOUND:
                yield "missing"
            else:
                length = response.headers.get("content-length", "")
                size = int(length) if length.isdigit() else None
                yield FoundBlob(size, response.iter_bytes(PIECE_BYTES))

    def _lines(self, what: str) -> Iterator[Stored]:
        path = f"/v1/sessions/{self._session}/audit/{what}"
        with self._get(path) as response:
            for text in response.iter_lines():
                if not text.strip():
                    continue
                try:
                    line = read(StoredEntry, text)
                    data = base64.b64decode(line.data, validate=True)
                except ValueError as error:  # `Unreadable` and `binascii.Error` are such
                    detail = f"{self._url}{path} sent an unreadable line: {error}"
                    raise ApiFailed(detail) from error
                yield Stored(line.sequence, data)

    @contextmanager
    def _get(self, path: str, absent: tuple[int, ...] = ()) -> Iterator[httpx.Response]:
        try:
            with self._http.stream("GET", path) as response:
                if response.is_error and response.status_code not in absent:
                    response.read()
                    raise ApiFailed(f"{self._url}{path}: {_problem(response)}")
                yield response
        except httpx.HTTPError as error:
            detail = str(error) or type(error).__name__
            raise ApiFailed(f"{self._url}{path} cannot be read: {detail}") from error


def _problem(response: httpx.Response) -> str:
    """Say what the api refused, from its problem document if it sent one."""
    try:
        document = json.loads(response.content)
        words = [document[name] for name in ("code", "title", "detail") if name in document]
    except (ValueError, TypeError):
        words = []
    return ": ".join([f"HTTP {response.status_code}", *map(str, words)])
