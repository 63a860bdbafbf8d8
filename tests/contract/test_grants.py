"""Grants: over memory and over SeaweedFS, only exactly what was granted is allowed, and only in time."""

import asyncio
import hashlib
from collections.abc import Mapping
from datetime import timedelta

import pytest
import urllib3
from fedbus_runtime.memory_blobs import MemoryBlobs
from fedbus_runtime.ports import SignedUrl
from fedbus_runtime.s3_signing import checksum_header

from tests.worlds import StoreWorld

BODY = b"the very bytes that were granted"
LIFETIME_S = 60


class Visit:
    """A client with one grant to upload `BODY`."""

    def __init__(self, store: StoreWorld, age_s: float = 0) -> None:
        self.store = store
        self.digest = hashlib.sha256(BODY).hexdigest()
        self.key = f"{store.project}/updates/c1/{self.digest}"
        now = store.clock.now() - timedelta(seconds=age_s)
        self.upload = store.grants.upload(self.key, self.digest, len(BODY), now, LIFETIME_S)
        self.download = store.grants.download(self.key, now, LIFETIME_S)

    async def put(self, body: bytes, **changed: str | None) -> int:
        headers = dict(self.upload.headers)
        for name, text in changed.items():
            headers.pop(name.replace("_", "-"), None)
            if text is not None:
                headers[name.replace("_", "-")] = text
        return (await send(self.store, self.upload, headers, body))[0]

    async def get(self) -> tuple[int, bytes]:
        return await send(self.store, self.download, self.download.headers, b"")


async def send(
    store: StoreWorld, signed: SignedUrl, headers: Mapping[str, str], body: bytes
) -> tuple[int, bytes]:
    """Send a request as a client would, each on a connection of its own."""
    if isinstance(store.blobs, MemoryBlobs):
        if signed.method == "GET":
            return store.blobs.send(signed.url, store.clock.now())
        return store.blobs.receive(signed.url, headers, body, store.clock.now()), b""

    def over_http() -> tuple[int, bytes]:
        with urllib3.PoolManager(retries=False, timeout=5.0) as pool:
            answer = pool.request(signed.method, signed.url, body=body or None, headers=headers)
            return answer.status, answer.data

    return await asyncio.to_thread(over_http)


async def test_the_right_bytes_are_taken_once(store: StoreWorld) -> None:
    visit = Visit(store)
    assert visit.upload.method == "PUT"
    assert visit.upload.expires > store.clock.now()
    assert await visit.put(BODY) == 200
    assert await store.blobs.get(visit.key, 1000) == BODY
    assert await visit.put(BODY) == 412
    assert await visit.get() == (200, BODY)


@pytest.mark.parametrize(
    ("body", "changed"),
    [
        (BODY[:-1] + b"?", {}),
        (BODY + b"!", {"content_length": str(len(BODY) + 1)}),
        (BODY[:-1], {"content_length": str(len(BODY) - 1)}),
        (BODY[:-1] + b"?", {"x_amz_checksum_sha256": None}),
        (
            BODY[:-1] + b"?",
            {
                "x_amz_checksum_sha256": checksum_header(
                    hashlib.sha256(BODY[:-1] + b"?").hexdigest()
                )
            },
        ),
        (BODY, {"if_none_match": None}),
    ],
    ids=["other-body", "longer", "shorter", "no-checksum", "other-checksum", "replacing"],
)
async def test_anything_else_is_refused(
    store: StoreWorld, body: bytes, changed: Mapping[str, str | None]
) -> None:
    visit = Visit(store)
    assert await visit.put(body, **changed) in {400, 403}
    assert await store.blobs.size(visit.key) is None
    assert await visit.put(BODY) == 200


async def test_an_expired_grant_is_refused(store: StoreWorld) -> None:
    late = Visit(store, age_s=LIFETIME_S + 30)
    assert await late.put(BODY) == 403
    assert (await late.get())[0] == 403
    assert await store.blobs.size(late.key) is None


async def test_a_grant_is_for_one_key_and_one_method(store: StoreWorld) -> None:
    visit = Visit(store)
    assert await visit.put(BODY) == 200
    elsewhere = SignedUrl(
        "GET", visit.download.url.replace("/c1/", "/c2/"), {}, visit.download.expires
    )
    assert (await send(store, elsewhere, {}, b""))[0] == 403
    as_upload = SignedUrl("PUT", visit.download.url, visit.upload.headers, visit.upload.expires)
    assert (await send(store, as_upload, visit.upload.headers, BODY))[0] == 403
    as_download = SignedUrl("GET", visit.upload.url, {}, visit.upload.expires)
    assert (await send(store, as_download, {}, b""))[0] == 403
