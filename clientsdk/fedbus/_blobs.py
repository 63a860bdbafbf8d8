"""Fetches and stores blobs with presigned requests. Blocking: run it in a thread.

Measured against three other HTTP clients, the standard library's was the fastest here. A download goes on
where the last one broke off; an upload is read from its file chunk by chunk.
"""

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol
from urllib.parse import urlsplit

from fedbus_schemas.asks import Grant

from fedbus._content import CHUNK_BYTES, Content, chunks, size_of
from fedbus._models import Incoming
from fedbus.errors import StoreAway

RECEIVE_BYTES = 256 * 1024
IDLE_CONNECTIONS_MAX = 4
IDLE_MAX_S = 5.0
"""A connection that was idle for longer is not used for an upload: it may be dead, and only the answer
would say so."""
ANSWER_BYTES_MAX = 64 * 1024
UNSENT_BYTES_MAX = 128 * 1024
"""How much may wait in the system's send buffer: a slow link must not look like a silent store."""
EXISTS = 412
"""The answer to a create-only PUT of a blob that is there already."""

_GONE = (OSError, http.client.HTTPException)


class Stopped(Exception):
    """The transfer was given up by us."""


class LinkBroke(StoreAway):
    """The connection was lost in the middle of a transfer."""


class Store(Protocol):
    """The object store, through grants. Blocking. `Blobs` is the real one."""

    def get(self, grant: Grant, incoming: Incoming, stop: Callable[[], bool]) -> bytearray:
        """Fetch what is missing of a blob, and check its length and SHA-256.

        Raises `StoreAway`, and `Stopped` soon after `stop()` turned True; what came stays in `incoming`.
        """

    def put(self, grant: Grant, content: Content, stop: Callable[[], bool]) -> None:
        """Store a blob. One that is there already is fine.

        Raises `StoreAway`, `Stopped`, and `ContentGone`.
        """

    def close(self) -> None:
        """Close what is open."""


class Blobs:
    """The object store, through grants. Keeps connections open; may be used by several threads."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._idle: list[tuple[tuple[str, str], float, http.client.HTTPConnection]] = []
        self._lock = threading.Lock()

    def get(self, grant: Grant, incoming: Incoming, stop: Callable[[], bool]) -> bytearray:
        """Fetch what is missing; see `Store`."""
        start = incoming.place
        headers = {"Range": f"bytes={start}-"} if start else {}
        with self._answer(grant, None, headers, stop) as answer:
            if answer.status == 206 and start:
                said = answer.getheader("Content-Range", "")
                if not said.startswith(f"bytes {start}-"):
                    raise StoreAway(f"the object store sent other bytes than asked: {said[:64]}")
            elif answer.status == 200:
                incoming.restart()
            else:
                if answer.status == 416:  # it has less than we think
                    incoming.restart()
                raise StoreAway(f"the object store answered {answer.status} to a download")
            _receive(answer, incoming, stop)
        if not incoming.is_right():
            incoming.restart()
            raise StoreAway("the downloaded bytes have another SHA-256 than the model")
        return incoming.data

    def put(self, grant: Grant, content: Content, stop: Callable[[], bool]) -> None:
        """Store a blob; see `Store`."""
        with self._answer(grant, content, {}, stop) as answer:
            if answer.status not in (200, 201, 204, EXISTS):
                raise StoreAway(f"the object store answered {answer.status} to an upload")

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, _, connection in idle:
            connection.close()

    @contextmanager
    def _answer(
        self,
        grant: Grant,
        body: Content | None,
        headers: Mapping[str, str],
        stop: Callable[[], bool],
    ) -> Iterator[http.client.HTTPResponse]:
        place, target = _place(grant.url)
        request = _Request(grant, target, headers, body, stop)
        connection, answer = self._send(place, request)
        try:
            yield answer
            answer.read(ANSWER_BYTES_MAX)
            reusable = answer.isclosed() and not answer.will_close
        except _GONE as error:
            connection.close()
            raise LinkBroke(f"the object store broke off: {_told(error)}") from error
        except BaseException:
            connection.close()
            raise
        self._put_back(place, connection, reusable=reusable)

    def _send(
        self, place: tuple[str, str], request: "_Request"
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """Send the request; once more on a new connection if the server had closed the idle one."""
        connection = self._take(place, idle_max_s=IDLE_MAX_S if request.body else None)
        while True:
            fresh = connection is None
            connection = connection or _connect(place, self._timeout_s)
            try:
                return connection, request.on(connection)
            except _GONE as error:
                connection.close()
                if fresh or request.sent > CHUNK_BYTES:
                    raise LinkBroke(f"the object store broke off: {_told(error)}") from error
                connection = None
            except BaseException:
                connection.close()
                raise

    def _take(
        self, place: tuple[str, str], *, idle_max_s: float | None
    ) -> http.client.HTTPConnection | None:
        with self._lock:
            for index, (at, since, connection) in enumerate(self._idle):
                young = idle_max_s is None or time.monotonic() - since <= idle_max_s
                if at == place and young:
                    del self._idle[index]
                    return connection
        return None

    def _put_back(
        self, place: tuple[str, str], connection: http.client.HTTPConnection, *, reusable: bool
    ) -> None:
        with self._lock:
            if reusable:
                self._idle.append((place, time.monotonic(), connection))
                if len(self._idle) <= IDLE_CONNECTIONS_MAX:
                    return
                _, _, connection = self._idle.pop(0)
        connection.close()


class _Request:
    """One request. `sent` says how much of the body a broken connection has taken."""

    def __init__(
        self,
        grant: Grant,
        target: str,
        headers: Mapping[str, str],
        body: Content | None,
        stop: Callable[[], bool],
    ) -> None:
        self.body = body
        self.sent = 0
        self._grant = grant
        self._target = target
        self._headers = headers
        self._stop = stop

    def on(self, connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
        """Send it and give the answer, unread."""
        self.sent = 0
        try:
            connection.putrequest(self._grant.method, self._target, skip_accept_encoding=True)
            for name, value in {**self._grant.headers, **self._headers}.items():
                if name.lower() not in ("host", "content-length"):
                    connection.putheader(name, value)
            if self.body is not None:
                connection.putheader("Content-Length", str(size_of(self.body)))
            connection.endheaders()
        except ValueError as error:
            raise StoreAway("the grant holds a header that cannot be sent") from error
        if self.body is not None:
            self._send_body(connection, self.body)
        return connection.getresponse()

    def _send_body(self, connection: http.client.HTTPConnection, body: Content) -> None:
        for chunk in chunks(body):
            if self._stop():
                raise Stopped
            try:
                connection.send(chunk)
            except (BrokenPipeError, ConnectionResetError):
                # A store that has the blob may answer before it has read it all: the answer is there.
                return
            self.sent += len(chunk)


def _place(url: str) -> tuple[tuple[str, str], str]:
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and parts.hostname is not None
    except ValueError:
        known = False
    if not known or any(ord(letter) <= 32 or ord(letter) > 126 for letter in url):
        raise StoreAway("the grant names no http or https address")
    target = parts.path or "/"
    return (parts.scheme, parts.netloc), f"{target}?{parts.query}" if parts.query else target


def _connect(place: tuple[str, str], timeout_s: float) -> http.client.HTTPConnection:
    scheme, host = place
    kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
    connection = kind(host, timeout=timeout_s)
    try:
        connection.connect()
    except _GONE as error:
        connection.close()
        raise StoreAway(f"no object store at {host}: {_told(error)}") from error
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if option is not None:
        connection.sock.setsockopt(socket.IPPROTO_TCP, option, UNSENT_BYTES_MAX)
    return connection


def _receive(
    answer: http.client.HTTPResponse, incoming: Incoming, stop: Callable[[], bool]
) -> None:
    missing = incoming.size - incoming.place
    if answer.length is not None and answer.length != missing:
        size = incoming.place + answer.length
        raise StoreAway(f"the object store has {size} bytes, not {incoming.size}")
    while not incoming.is_full:
        if stop():
            raise Stopped
        # What one read of the socket brings: bytes that came before a break must not be lost with it.
        data = answer.read1(min(RECEIVE_BYTES, incoming.size - incoming.place))
        if not data:
            raise LinkBroke(f"the download ended at byte {incoming.place} of {incoming.size}")
        incoming.add(data)
    if answer.read(1):
        incoming.restart()
        raise StoreAway(f"the download is longer than {incoming.size} bytes")


def _told(error: Exception) -> str:
    return str(error) or type(error).__name__
