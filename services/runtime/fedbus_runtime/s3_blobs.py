"""The object store over S3: immutable blobs, checked while they stream, in a bounded pool of threads.

PUT, GET and HEAD are our own signed requests, because the client library has no public conditional PUT
and no read into a given buffer; listing, bulk deletion and making the bucket are the library's. Both
share one pool of kept connections. A PUT is create-only, so repeating one is always safe.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from typing import TypeVar
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.deleteobjects import DeleteObject
from minio.error import MinioException, S3Error

from fedbus_runtime.errors import BlobCorrupt, BlobMissing, StoreAway
from fedbus_runtime.ports import Clock
from fedbus_runtime.s3_signing import S3Place, checksum_header, signed_headers

CONNECT_TIMEOUT_S = 3.0
READ_TIMEOUT_S = 30.0
RETRIES_MAX = 2
RETRY_WAIT_FIRST_S = 0.1
THREADS_MAX = 16
PIECE_BYTES = 1024 * 1024
ERROR_TEXT_MAX = 500

_MISSING = {404}
_EXISTS = 412
_OK = {200, 206}

T = TypeVar("T")
Part = bytes | bytearray | memoryview


class S3Blobs:
    """`ports.Blobs` in a bucket."""

    def __init__(self, place: S3Place, clock: Clock) -> None:
        self._place = place
        self._clock = clock
        self._threads = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="blobs")
        retries = urllib3.Retry(
            total=RETRIES_MAX,
            backoff_factor=RETRY_WAIT_FIRST_S,
            status_forcelist=[500, 502, 503, 504],
            allowed_methods=None,
            raise_on_status=False,
            redirect=False,
        )
        self._pool = urllib3.PoolManager(
            maxsize=THREADS_MAX,
            block=True,
            retries=retries,
            timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S),
        )
        self._library = Minio(
            place.host,
            access_key=place.access_key,
            secret_key=place.secret_key,
            secure=urlsplit(place.endpoint).scheme == "https",
            region=place.region,
            http_client=self._pool,
        )

    async def put(self, key: str, parts: Sequence[Part]) -> None:
        """Store a blob unless it exists; see `ports.Blobs`."""
        await self._in_thread(lambda: self._put(key, parts))

    async def get(self, key: str, size_max: int) -> bytearray:
        """Read and check a blob; see `ports.Blobs`."""
        return await self._in_thread(lambda: self._get(key, size_max))

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        """Read a part; see `ports.Blobs`."""
        if length == 0:
            return b""
        headers = {"range": f"bytes={start}-{start + length - 1}"}
        return await self._in_thread(lambda: self._whole("GET", key, headers))

    async def stream(self, key: str) -> AsyncIterator[bytes]:
        """Yield a blob in pieces; see `ports.Blobs`."""
        response = await self._in_thread(lambda: self._open("GET", key, {}))
        try:
            while piece := await self._in_thread(lambda: _piece(response)):
                yield piece
            response.release_conn()
        finally:
            response.close()

    async def size(self, key: str) -> int | None:
        """Give a blob's length; see `ports.Blobs`."""
        return await self._in_thread(lambda: self._size(key))

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete blobs; see `ports.Blobs`."""
        await self._in_thread(lambda: self._delete(keys))

    async def list(self, prefix: str) -> Sequence[str]:
        """Give the keys under a prefix; see `ports.Blobs`."""
        return sorted(await self.written(prefix))

    async def written(self, prefix: str) -> Mapping[str, datetime]:
        """Give the keys under a prefix with their times; see `ports.Blobs`."""
        return await self._in_thread(lambda: self._written(prefix))

    async def make_bucket(self) -> None:
        """Make the bucket unless it exists. Raises `StoreAway`."""
        await self._in_thread(self._make_bucket)

    async def close(self) -> None:
        """Close the kept connections; what runs in a thread ends by itself."""
        self._threads.shutdown(wait=False)
        self._pool.clear()

    async def try_put(self, key: str, content: bytes) -> int:
        """Send one create-only PUT and give the store's status, whatever it is; for the probe."""
        return await self._in_thread(lambda: self._send_parts(key, [content])[0])

    def _put(self, key: str, parts: Sequence[Part]) -> None:
        status, text = self._send_parts(key, parts)
        if status in _OK or status == _EXISTS:
            return
        if "BadDigest" in text or "InvalidDigest" in text:
            raise BlobCorrupt(f"{key}: the parts do not hash to the key")
        raise StoreAway(f"PUT {key}: {status} {text}")

    def _send_parts(self, key: str, parts: Sequence[Part]) -> tuple[int, str]:
        digest = key.rpartition("/")[2]
        views = [memoryview(part).cast("B") for part in parts if len(part)]
        headers = {
            "content-length": str(sum(view.nbytes for view in views)),
            "content-type": "application/octet-stream",
            "if-none-match": "*",
            "x-amz-checksum-sha256": checksum_header(digest),
        }
        response = self._send("PUT", key, headers, views)
        try:
            return response.status, _error_text(response)
        finally:
            response.release_conn()

    def _get(self, key: str, size_max: int) -> bytearray:
        response = self._open("GET", key, {})
        try:
            size = int(response.headers["content-length"])
            if size > size_max:
                raise BlobCorrupt(f"{key} has {size} bytes, more than {size_max}")
            content = bytearray(size)
            with _faults_as_away(key):
                digest = _read_into(response, memoryview(content))
            response.release_conn()
        finally:
            response.close()
        if digest != key.rpartition("/")[2]:
            raise BlobCorrupt(f"{key} hashes to {digest}")
        return content

    def _size(self, key: str) -> int | None:
        try:
            response = self._open("HEAD", key, {})
        except BlobMissing:
            return None
        response.drain_conn()
        response.release_conn()
        return int(response.headers["content-length"])

    def _whole(self, method: str, key: str, headers: Mapping[str, str]) -> bytes:
        response = self._open(method, key, headers)
        with _faults_as_away(key):
            content: bytes = response.read()
        response.release_conn()
        return content

    def _open(self, method: str, key: str, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        """Send a request without a body and give the answer, unread."""
        response = self._send(method, key, headers, None)
        if response.status in _OK:
            return response
        text = _error_text(response)
        response.release_conn()
        if response.status in _MISSING:
            raise BlobMissing(key)
        raise StoreAway(f"{method} {key}: {response.status} {text}")

    def _send(
        self,
        method: str,
        key: str,
        headers: Mapping[str, str],
        views: Sequence[memoryview] | None,
    ) -> urllib3.BaseHTTPResponse:
        signed = signed_headers(self._place, method, key, headers, self._clock.now())
        with _faults_as_away(key):
            return self._pool.urlopen(
                method, self._place.url(key), body=views, headers=signed, preload_content=False
            )

    def _delete(self, keys: Sequence[str]) -> None:
        with _faults_as_away("delete"):
            names = [DeleteObject(key) for key in keys]
            for error in self._library.remove_objects(self._place.bucket, names):
                raise StoreAway(f"delete {error.name}: {error.message}")

    def _written(self, prefix: str) -> Mapping[str, datetime]:
        with _faults_as_away(prefix):
            found = self._library.list_objects(self._place.bucket, prefix=prefix, recursive=True)
            return {
                each.object_name: each.last_modified
                for each in found
                if each.object_name is not None and each.last_modified is not None
            }

    def _make_bucket(self) -> None:
        with _faults_as_away(self._place.bucket):
            if self._library.bucket_exists(self._place.bucket):
                return
            try:
                self._library.make_bucket(self._place.bucket)
            except S3Error as error:
                if error.code not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
                    raise

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


@contextmanager
def _faults_as_away(what: str) -> Iterator[None]:
    try:
        yield
    except (urllib3.exceptions.HTTPError, MinioException, OSError) as error:
        raise StoreAway(f"{what}: {error}") from error


def _read_into(response: urllib3.BaseHTTPResponse, view: memoryview) -> str:
    """Fill a buffer from a response and give the SHA-256 of what came."""
    digest = hashlib.sha256()
    place = 0
    while place < len(view):
        piece = response.read(min(PIECE_BYTES, len(view) - place))
        if not piece:
            raise StoreAway(f"the answer ended after {place} of {len(view)} bytes")
        view[place : place + len(piece)] = piece
        digest.update(piece)
        place += len(piece)
    return digest.hexdigest()


def _piece(response: urllib3.BaseHTTPResponse) -> bytes:
    with _faults_as_away("stream"):
        piece: bytes = response.read(PIECE_BYTES)
        return piece


def _error_text(response: urllib3.BaseHTTPResponse) -> str:
    """Give the store's error code and message, cut short."""
    with _faults_as_away("answer"):
        return response.read().decode(errors="replace")[:ERROR_TEXT_MAX]
