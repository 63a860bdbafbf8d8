"""The object store in memory, and grants to it that the store checks as a real one does."""

import hashlib
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from fedbus_schemas.ids import Sha256

from fedbus_runtime.errors import BlobCorrupt, BlobMissing, StoreAway
from fedbus_runtime.ports import SignedUrl
from fedbus_runtime.s3_signing import checksum_header
from fedbus_runtime.system_clock import SystemClock

PIECE_BYTES = 1024 * 1024

Part = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class _Grant:
    key: str
    signed: SignedUrl


class MemoryBlobs:
    """`ports.Blobs` in memory. `away` makes every call raise `StoreAway`."""

    def __init__(self) -> None:
        self.away = False
        self.content: dict[str, bytes] = {}
        self.grants: dict[str, _Grant] = {}
        self.now: Callable[[], datetime] = SystemClock().now
        self._written: dict[str, datetime] = {}

    async def put(self, key: str, parts: Sequence[Part]) -> None:
        """Store a blob unless it exists; see `ports.Blobs`."""
        content = self._demand()
        data = b"".join(parts)
        if hashlib.sha256(data).hexdigest() != key.rpartition("/")[2]:
            raise BlobCorrupt(f"{key}: the parts do not hash to the key")
        if key not in content:
            content[key] = data
            self._written[key] = self.now()

    async def get(self, key: str, size_max: int) -> bytearray:
        """Read and check a blob; see `ports.Blobs`."""
        data = self._found(key)
        if len(data) > size_max:
            raise BlobCorrupt(f"{key} has {len(data)} bytes, more than {size_max}")
        if hashlib.sha256(data).hexdigest() != key.rpartition("/")[2]:
            raise BlobCorrupt(f"{key} hashes to something else")
        return bytearray(data)

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        """Read a part; see `ports.Blobs`."""
        return self._found(key)[start : start + length]

    async def stream(self, key: str) -> AsyncIterator[bytes]:
        """Yield a blob in pieces; see `ports.Blobs`."""
        data = self._found(key)
        for start in range(0, len(data), PIECE_BYTES):
            yield data[start : start + PIECE_BYTES]

    async def size(self, key: str) -> int | None:
        """Give a blob's length; see `ports.Blobs`."""
        data = self._demand().get(key)
        return None if data is None else len(data)

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete blobs; see `ports.Blobs`."""
        content = self._demand()
        for key in keys:
            content.pop(key, None)

    async def list(self, prefix: str) -> Sequence[str]:
        """Give the keys under a prefix; see `ports.Blobs`."""
        return sorted(key for key in self._demand() if key.startswith(prefix))

    async def written(self, prefix: str) -> Mapping[str, datetime]:
        """Give the keys under a prefix with their times; see `ports.Blobs`."""
        return {key: self._written[key] for key in await self.list(prefix)}

    def receive(self, url: str, headers: Mapping[str, str], body: bytes, now: datetime) -> int:
        """Take a granted upload and give the status that a store would."""
        grant = self.grants.get(url)
        if self.away:
            return 503
        if grant is None or grant.signed.method != "PUT" or now >= grant.signed.expires:
            return 403
        sent = {**headers, "content-length": headers.get("content-length", str(len(body)))}
        if any(sent.get(name) != text for name, text in grant.signed.headers.items()):
            return 403
        if len(body) != int(sent["content-length"]):
            return 400
        digest = hashlib.sha256(body).hexdigest()
        if checksum_header(digest) != sent["x-amz-checksum-sha256"]:
            return 400
        if grant.key in self.content:
            return 412
        self.content[grant.key] = body
        self._written[grant.key] = now
        return 200

    def send(self, url: str, now: datetime) -> tuple[int, bytes]:
        """Answer a granted download with the status that a store would give, and the bytes."""
        grant = self.grants.get(url)
        if self.away:
            return 503, b""
        if grant is None or grant.signed.method != "GET" or now >= grant.signed.expires:
            return 403, b""
        data = self.content.get(grant.key)
        return (404, b"") if data is None else (200, data)

    def _demand(self) -> dict[str, bytes]:
        if self.away:
            raise StoreAway("the memory store is away")
        return self.content

    def _found(self, key: str) -> bytes:
        data = self._demand().get(key)
        if data is None:
            raise BlobMissing(key)
        return data


class MemoryGrants:
    """`ports.Grants` to memory blobs; a `mem://` address is a secret that only its grant knows."""

    def __init__(self, blobs: MemoryBlobs) -> None:
        self._blobs = blobs

    def upload(
        self, key: str, digest: Sha256, size: int, now: datetime, lifetime_s: int
    ) -> SignedUrl:
        """Allow one create-only PUT; see `ports.Grants`."""
        headers = {
            "content-length": str(size),
            "if-none-match": "*",
            "x-amz-checksum-sha256": checksum_header(digest),
        }
        return self._granted("PUT", key, headers, now, lifetime_s)

    def download(self, key: str, now: datetime, lifetime_s: int) -> SignedUrl:
        """Allow reading one blob; see `ports.Grants`."""
        return self._granted("GET", key, {}, now, lifetime_s)

    def _granted(
        self, method: str, key: str, headers: dict[str, str], now: datetime, lifetime_s: int
    ) -> SignedUrl:
        signed = SignedUrl(
            method=method,
            url=f"mem://{key}?grant={secrets.token_hex(16)}",
            headers=headers,
            expires=now + timedelta(seconds=lifetime_s),
        )
        self._blobs.grants[signed.url] = _Grant(key, signed)
        return signed
