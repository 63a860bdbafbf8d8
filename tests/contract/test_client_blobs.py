"""The client's transfers on a real object store, with the grants that the services give."""

import hashlib
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pytest
import urllib3
from fedbus._blobs import Blobs
from fedbus._models import Incoming
from fedbus.errors import StoreAway
from fedbus_runtime.ports import SignedUrl
from fedbus_runtime.s3_grants import S3Grants
from fedbus_runtime.s3_signing import S3Place, signed_headers
from fedbus_schemas.asks import Grant
from fedbus_schemas.models import BlobRef

from tests.servers import ACCESS_KEY, SECRET_KEY, Server, start_store

pytestmark = pytest.mark.servers

LIFETIME_S = 60
START_TIMEOUT_S = 20


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("store")
    server = start_store(folder)
    make_bucket(place(server))
    yield server
    server.stop()


def place(store: Server) -> S3Place:
    return S3Place(store.url, "blobs", ACCESS_KEY, SECRET_KEY)


def make_bucket(at: S3Place) -> None:
    give_up = time.monotonic() + START_TIMEOUT_S
    status = 0
    while status != 200 and time.monotonic() < give_up:
        headers = signed_headers(at, "PUT", "", {}, now())
        status = urllib3.request("PUT", at.url(""), headers=headers, retries=False).status
        time.sleep(0.05)
    assert status == 200


def now() -> datetime:
    return datetime.fromtimestamp(time.time(), UTC)


def grant(signed: SignedUrl, method: Literal["GET", "PUT"]) -> Grant:
    headers = dict(signed.headers)
    return Grant(method=method, url=signed.url, headers=headers, expires=signed.expires)


def blob(data: bytes) -> BlobRef:
    return BlobRef(digest=hashlib.sha256(data).hexdigest(), size=len(data))


def never() -> bool:
    return False


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_what_was_stored_once_is_fetched_again(store: Server, size: int) -> None:
    data = os.urandom(size)
    ref, key, blobs = blob(data), f"demo/updates/{size}", Blobs(10)
    grants = S3Grants(place(store))
    put = grant(grants.upload(key, ref.digest, ref.size, now(), LIFETIME_S), "PUT")
    blobs.put(put, data, never)
    blobs.put(put, data, never)  # it is there already: fine
    get = grant(grants.download(key, now(), LIFETIME_S), "GET")
    assert blobs.get(get, Incoming(ref), never) == data
    blobs.close()


def test_the_store_itself_refuses_another_body(store: Server) -> None:
    data = os.urandom(1000)
    ref, blobs = blob(data), Blobs(10)
    grants = S3Grants(place(store))
    put = grant(grants.upload("demo/updates/x", ref.digest, ref.size, now(), LIFETIME_S), "PUT")
    with pytest.raises(StoreAway, match="answered 400"):
        blobs.put(put, bytes(1000), never)
    get = grant(grants.download("demo/updates/x", now(), LIFETIME_S), "GET")
    with pytest.raises(StoreAway, match="answered 404"):
        blobs.get(get, Incoming(ref), never)
    blobs.close()
