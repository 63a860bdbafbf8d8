"""The object store: over memory and over SeaweedFS the same must hold; and the probe on the real one."""

import asyncio
import hashlib
from datetime import timedelta

import pytest
from fedbus_runtime.errors import BlobCorrupt, BlobMissing, StoreAway
from fedbus_runtime.s3_blobs import S3Blobs
from fedbus_runtime.s3_probe import probe
from fedbus_runtime.s3_signing import S3Place
from fedbus_runtime.system_clock import SystemClock

from tests.servers import SECRET_KEY, Server, free_port
from tests.worlds import StoreWorld, store_place

LARGE = 3 * 1024 * 1024 + 17


def key_of(store: StoreWorld, content: bytes) -> str:
    return f"{store.project}/models/{hashlib.sha256(content).hexdigest()}"


async def test_gives_back_what_was_put_in_parts(store: StoreWorld) -> None:
    content = bytes(range(256)) * (LARGE // 256)
    key = key_of(store, content)
    parts: list[bytes | bytearray | memoryview] = [content[:100], bytearray()]
    parts += [bytearray(content[100:200]), memoryview(content)[200:]]
    await store.blobs.put(key, parts)
    assert await store.blobs.get(key, LARGE) == content
    assert await store.blobs.size(key) == len(content)
    assert b"".join([piece async for piece in store.blobs.stream(key)]) == content


async def test_an_empty_blob(store: StoreWorld) -> None:
    key = key_of(store, b"")
    await store.blobs.put(key, [])
    assert await store.blobs.get(key, 0) == b""
    assert await store.blobs.size(key) == 0


async def test_putting_again_changes_nothing(store: StoreWorld) -> None:
    key = key_of(store, b"content")
    await asyncio.gather(*(store.blobs.put(key, [b"content"]) for _ in range(8)))
    await store.blobs.put(key, [b"content"])
    assert await store.blobs.get(key, 100) == b"content"


async def test_bytes_that_are_not_the_key_are_refused(store: StoreWorld) -> None:
    key = key_of(store, b"content")
    with pytest.raises(BlobCorrupt):
        await store.blobs.put(key, [b"contend"])
    assert await store.blobs.size(key) is None


async def test_more_than_allowed_is_refused(store: StoreWorld) -> None:
    key = key_of(store, b"content")
    await store.blobs.put(key, [b"content"])
    with pytest.raises(BlobCorrupt):
        await store.blobs.get(key, 6)


async def test_reads_ranges(store: StoreWorld) -> None:
    key = key_of(store, b"0123456789")
    await store.blobs.put(key, [b"0123456789"])
    assert await store.blobs.get_range(key, 3, 4) == b"3456"
    assert await store.blobs.get_range(key, 0, 10) == b"0123456789"
    assert await store.blobs.get_range(key, 5, 0) == b""


async def test_what_is_not_there(store: StoreWorld) -> None:
    key = key_of(store, b"never put")
    assert await store.blobs.size(key) is None
    with pytest.raises(BlobMissing):
        await store.blobs.get(key, 100)
    with pytest.raises(BlobMissing):
        await store.blobs.get_range(key, 0, 1)
    with pytest.raises(BlobMissing):
        await anext(store.blobs.stream(key))


async def test_lists_and_deletes(store: StoreWorld) -> None:
    keys = [key_of(store, b"%d" % each) for each in range(5)]
    for each, key in enumerate(keys):
        await store.blobs.put(key, [b"%d" % each])
    assert await store.blobs.list(f"{store.project}/") == sorted(keys)
    assert await store.blobs.list(f"{store.project}/none/") == []
    written = await store.blobs.written(f"{store.project}/")
    assert sorted(written) == sorted(keys)
    assert all(abs(at - SystemClock().now()) < timedelta(minutes=1) for at in written.values())
    await store.blobs.delete([*keys[:3], key_of(store, b"never put")])
    assert await store.blobs.list(f"{store.project}/models/") == sorted(keys[3:])


@pytest.mark.servers
async def test_the_store_passes_the_probe(store_server: Server) -> None:
    blobs = S3Blobs(store_place(store_server), SystemClock())
    await probe(blobs)
    await probe(blobs)
    assert await blobs.list("probe/") == []
    await blobs.close()


@pytest.mark.servers
async def test_a_wrong_secret_and_a_dead_store_are_away(store_server: Server) -> None:
    wrong = S3Place(store_server.url, "contract", "tester", SECRET_KEY + "x")
    dead = S3Place(f"http://127.0.0.1:{free_port()}", "contract", "tester", SECRET_KEY)
    for place in (wrong, dead):
        blobs = S3Blobs(place, SystemClock())
        with pytest.raises(StoreAway):
            await blobs.get("p/models/" + "0" * 64, 10)
        with pytest.raises(StoreAway):
            await blobs.put("p/models/" + "0" * 64, [b"x"])
        with pytest.raises(StoreAway):
            await probe(blobs)
        await blobs.close()
