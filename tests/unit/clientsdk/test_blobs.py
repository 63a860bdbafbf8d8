"""Transfers to and from an object store that does not always behave."""

import hashlib
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import pytest
from fedbus._blobs import Blobs, LinkBroke, Stopped
from fedbus._content import ContentGone, FilePart
from fedbus._models import Incoming
from fedbus.errors import StoreAway
from fedbus_schemas.asks import Grant
from fedbus_schemas.models import BlobRef

DATA = bytes(range(256)) * 20_000
BLOB = BlobRef(digest=hashlib.sha256(DATA).hexdigest(), size=len(DATA))
NEVER = lambda: False  # noqa: E731


class Store(ThreadingHTTPServer):
    daemon_threads = True
    blobs: dict[str, bytes]
    requests: list[tuple[str, dict[str, str]]]
    connections = 0
    answers: list[int]
    drop_after_answer = False
    ranges = True
    cut_after: int | None = None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: some tests hang up on purpose."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Store

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_GET(self) -> None:
        self.note()
        data = self.server.blobs.get(self.path.partition("?")[0], b"")
        asked = self.headers.get("Range")
        if asked is None or not self.server.ranges:
            self.answer(200 if data else 404, data)
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(data):
            self.answer(416, b"")
        else:
            self.answer(206, data[start:], f"bytes {start}-{len(data) - 1}/{len(data)}")

    def do_PUT(self) -> None:
        self.note()
        data = self.rfile.read(int(self.headers["Content-Length"]))
        path = self.path.partition("?")[0]
        if path in self.server.blobs:
            self.answer(412, b"exists")
            return
        if not self.server.answers:
            self.server.blobs[path] = data
        self.answer(200, b"")

    def note(self) -> None:
        self.server.requests.append((f"{self.command} {self.path}", dict(self.headers)))

    def answer(self, status: int, data: bytes, content_range: str = "") -> None:
        status = self.server.answers.pop(0) if self.server.answers else status
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()
        if self.server.cut_after is not None and self.server.cut_after < len(data):
            self.wfile.write(data[: self.server.cut_after])
            self.close_connection = True
            return
        self.wfile.write(data)
        self.close_connection = self.server.drop_after_answer

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@pytest.fixture
def store() -> Iterator[Store]:
    server = Store(("127.0.0.1", 0), Handler)
    server.blobs, server.requests, server.answers = {"/m": DATA}, [], []
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def blobs() -> Iterator[Blobs]:
    blobs = Blobs(5)
    yield blobs
    blobs.close()


def grant(store: Store, path: str, method: Literal["GET", "PUT"] = "GET", **headers: str) -> Grant:
    url = f"http://127.0.0.1:{store.server_port}{path}"
    when = datetime(2030, 1, 1, tzinfo=UTC)
    return Grant(method=method, url=url, headers=headers, expires=when)


def fetch(blobs: Blobs, granted: Grant) -> bytearray:
    return blobs.get(granted, Incoming(BLOB), NEVER)


def test_a_blob_is_fetched_and_checked_over_one_connection(store: Store, blobs: Blobs) -> None:
    for _ in range(3):
        assert fetch(blobs, grant(store, "/m?X-Sig=a%2Fb")) == DATA
    assert store.connections == 1
    assert store.requests[0][0] == "GET /m?X-Sig=a%2Fb"


def test_wrong_bytes_are_never_given(store: Store, blobs: Blobs) -> None:
    store.blobs["/m"] = DATA[:-1] + b"x"
    with pytest.raises(StoreAway, match="another SHA-256"):
        fetch(blobs, grant(store, "/m"))
    store.blobs["/m"] = DATA + b"x"
    with pytest.raises(StoreAway, match="has 5120001 bytes, not 5120000"):
        fetch(blobs, grant(store, "/m"))


@pytest.mark.parametrize("status", [404, 403, 500, 503, 301])
def test_another_answer_is_an_error_that_may_pass(store: Store, blobs: Blobs, status: int) -> None:
    store.answers = [status]
    with pytest.raises(StoreAway, match=f"answered {status}"):
        fetch(blobs, grant(store, "/m"))
    assert fetch(blobs, grant(store, "/m")) == DATA


def test_a_closed_idle_connection_is_replaced(store: Store, blobs: Blobs) -> None:
    store.drop_after_answer = True
    for _ in range(3):
        assert fetch(blobs, grant(store, "/m")) == DATA
    assert store.connections == 3


def test_an_upload_sends_the_granted_headers_and_nothing_of_its_own(
    store: Store, blobs: Blobs
) -> None:
    granted = {"x-amz-checksum-sha256": "abc", "If-None-Match": "*"}
    blobs.put(grant(store, "/u", "PUT", **granted), DATA, NEVER)
    assert store.blobs["/u"] == DATA
    _, headers = store.requests[0]
    assert headers.pop("Host")
    assert headers == granted | {"Content-Length": str(len(DATA))}


def test_an_upload_of_what_is_there_already_is_fine(store: Store, blobs: Blobs) -> None:
    blobs.put(grant(store, "/m", "PUT"), DATA, NEVER)
    store.answers = [500]
    with pytest.raises(StoreAway, match="answered 500"):
        blobs.put(grant(store, "/u", "PUT"), DATA, NEVER)


def test_a_transfer_stops_when_nobody_wants_it_any_more(store: Store, blobs: Blobs) -> None:
    for transfer in (
        lambda: blobs.get(grant(store, "/m"), Incoming(BLOB), lambda: True),
        lambda: blobs.put(grant(store, "/u", "PUT"), DATA, lambda: True),
    ):
        with pytest.raises(Stopped):
            transfer()


@pytest.mark.parametrize(
    "url", ["ftp://host/x", "http:///x", "file:///etc/passwd", "http://h/a b", "http://h/\r\nX: y"]
)
def test_an_address_that_is_none_is_refused(blobs: Blobs, url: str) -> None:
    bad = Grant(method="GET", url=url, expires=datetime(2030, 1, 1, tzinfo=UTC))
    with pytest.raises(StoreAway, match="no http"):
        fetch(blobs, bad)


def test_no_store_at_all_is_an_error_that_may_pass(store: Store, blobs: Blobs) -> None:
    gone = grant(store, "/m")
    store.shutdown()
    store.server_close()
    with pytest.raises(StoreAway, match="no object store at"):
        fetch(blobs, gone)


def test_a_download_goes_on_where_it_was_cut(store: Store, blobs: Blobs) -> None:
    incoming = Incoming(BLOB)
    store.cut_after = 2_000_000
    for place in (2_000_000, 4_000_000):
        with pytest.raises(LinkBroke, match=f"ended at byte {place} of 5120000"):
            blobs.get(grant(store, "/m"), incoming, NEVER)
        assert incoming.place == place
    assert blobs.get(grant(store, "/m"), incoming, NEVER) == DATA
    ranges = [headers.get("Range") for _, headers in store.requests]
    assert ranges == [None, "bytes=2000000-", "bytes=4000000-"]


def test_a_store_without_ranges_sends_it_all_again(store: Store, blobs: Blobs) -> None:
    incoming = Incoming(BLOB)
    incoming.add(DATA[:1000])
    store.ranges = False
    assert blobs.get(grant(store, "/m"), incoming, NEVER) == DATA


@pytest.mark.parametrize(
    ("answer", "error"), [(416, "answered 416"), (206, "sent other bytes"), (403, "answered 403")]
)
def test_a_range_that_the_store_does_not_have(
    store: Store, blobs: Blobs, answer: int, error: str
) -> None:
    incoming = Incoming(BLOB)
    incoming.add(DATA[:1000])
    store.ranges = False
    store.answers = [answer]
    with pytest.raises(StoreAway, match=error):
        blobs.get(grant(store, "/m"), incoming, NEVER)
    assert incoming.place == (0 if answer == 416 else 1000)


def test_what_was_wrong_from_the_beginning_is_fetched_anew(store: Store, blobs: Blobs) -> None:
    incoming = Incoming(BLOB)
    incoming.add(b"?" * 1000)
    with pytest.raises(StoreAway, match="another SHA-256"):
        blobs.get(grant(store, "/m"), incoming, NEVER)
    assert incoming.place == 0
    assert blobs.get(grant(store, "/m"), incoming, NEVER) == DATA


def test_a_part_of_a_file_is_uploaded(store: Store, blobs: Blobs, tmp_path: Path) -> None:
    path = tmp_path / "update"
    path.write_bytes(DATA)
    blobs.put(grant(store, "/u", "PUT"), FilePart(path, 1000, 200_000), NEVER)
    assert store.blobs["/u"] == DATA[1000:201_000]
    with pytest.raises(ContentGone, match="too short"):
        blobs.put(grant(store, "/v", "PUT"), FilePart(path, len(DATA) - 10, 20), NEVER)
