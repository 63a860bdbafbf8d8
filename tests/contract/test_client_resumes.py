"""The client's transfers over a bad link to a real store: they go on after cuts and after expired grants."""

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fedbus._asking import Asker
from fedbus._blobs import Blobs
from fedbus._content import FilePart
from fedbus._fetching import Fetcher
from fedbus._link import Link as KnownLink
from fedbus._models import Models
from fedbus._updates import Update, UpdateKey
from fedbus._uploading import Upload, Uploader
from fedbus.errors import StoreAway
from fedbus.options import Options
from fedbus_runtime.pieced_blobs import PiecedBlobs, from_start, read_pieces
from fedbus_runtime.s3_blobs import S3Blobs
from fedbus_runtime.s3_grants import S3Grants
from fedbus_runtime.s3_signing import S3Place
from fedbus_runtime.system_clock import SystemClock
from fedbus_schemas import keys, nkeys, signing
from fedbus_schemas.asks import Answer, Grant, GrantRequest, PiecesGrant, PiecesRequest
from fedbus_schemas.credentials import Credentials
from fedbus_schemas.models import BlobRef
from fedbus_schemas.tasks import ModelToFetch

from tests.fault_proxy import Link, fault_proxy
from tests.servers import ACCESS_KEY, SECRET_KEY, Server
from tests.worlds import store_place

pytestmark = pytest.mark.servers

MB = 1_000_000
CLIENT = "c" + "a" * 16
LIFETIME_S = 60
EXPIRED_S = -30


class Services:
    """Gives grants as a combiner does, to the store behind the link. `lifetimes` are of the next ones."""

    def __init__(self, blobs: PiecedBlobs, link: Link) -> None:
        self.blobs = blobs
        place = S3Place(f"http://127.0.0.1:{link.port}", "contract", ACCESS_KEY, SECRET_KEY)
        self.grants = S3Grants(place)
        self.lifetimes: list[int] = []
        self.asked = 0

    async def serve(self, *_: object) -> None:
        raise AssertionError("nothing is served here")

    async def ask(
        self, verb: str, content: bytes, trace_id: str = "", timeout_s: float | None = None
    ) -> Answer:
        self.asked += 1
        if verb == "grant":
            wanted = GrantRequest.model_validate_json(content)
            if wanted.purpose == "download":
                key = keys.model("resumes", wanted.blob.digest)
                now = self._now()
                return Answer(grant=_grant(self.grants.download(key, now, LIFETIME_S)))
            return Answer(grant=self._put(update_key(wanted.blob), wanted.blob))
        request = PiecesRequest.model_validate_json(content)
        prefix = keys.pieces("resumes", CLIENT, request.blob.digest)
        size = request.blob.size
        if not request.pieces:
            row = from_start(read_pieces(await self.blobs.list(prefix)), size)
            return Answer(pieces=PiecesGrant(stored=row[-1].end if row else 0))
        return Answer(
            pieces=PiecesGrant(
                grants=tuple(
                    self._put(keys.piece(prefix, size, one.start, one.size, one.digest), one)
                    for one in request.pieces
                )
            )
        )

    def _put(self, key: str, blob: BlobRef) -> Grant:
        return _grant(self.grants.upload(key, blob.digest, blob.size, self._now(), LIFETIME_S))

    def _now(self) -> datetime:
        """Now; or so long ago that the grant has expired."""
        age_s = LIFETIME_S - self.lifetimes.pop(0) if self.lifetimes else 0
        return datetime.fromtimestamp(time.time(), UTC) - timedelta(seconds=age_s)


def _grant(signed: object) -> Grant:
    return Grant.model_validate(signed, from_attributes=True)


def update_key(blob: BlobRef) -> str:
    return keys.update("resumes", CLIENT, blob.digest)


def blob_of(data: bytes) -> BlobRef:
    return BlobRef(digest=hashlib.sha256(data).hexdigest(), size=len(data))


class World:
    """A client's parts, on a link to the store."""

    def __init__(self, services: Services, link: Link, folder: Path) -> None:
        self.services, self.link, self.folder = services, link, folder
        self.blobs = Blobs(5)
        credentials = Credentials(
            project="resumes",
            name="site-1",
            servers=("nats://127.0.0.1:1",),
            device_seed=nkeys.user_seed(bytes(32)),
            payload_seed=signing.encode(bytes(32)),
            trust=(signing.encode(bytes(32)),),
        )
        options = Options(credentials=credentials, backoff_min_s=0.01, backoff_max_s=0.05)
        self.asker = Asker(services, options)
        self.known = KnownLink(folder / "link.json")
        self.uploader = Uploader(self.asker, self.blobs, self.known)

    def upload_of(self, data: bytes) -> Upload:
        path = self.folder / "update"
        path.write_bytes(data)
        blob = blob_of(data)
        update = Update(UpdateKey("s-1", 1, 1), blob, b"", rides_along=False)
        until = asyncio.get_running_loop().time() + 60
        return Upload(update, FilePart(path, 0, len(data)), until, "")

    async def insist(self, upload: Upload) -> int:
        """Upload with as many tries as it takes, and give how many failed."""
        failed = 0
        while True:
            try:
                assert await self.uploader.upload(upload) is None
            except StoreAway:
                failed += 1
                assert failed < 50
            else:
                return failed

    async def fetch(self, data: bytes, models: Models) -> bytes | bytearray:
        fetcher = Fetcher(self.asker, self.blobs, models, bytes_max=10**9, patience_s=20)
        blob = blob_of(data)
        return await fetcher.fetch(
            ModelToFetch(digest=blob.digest, size=blob.size),
            GrantRequest(purpose="download", session="s-1", round=1, blob=blob),
            until=asyncio.get_running_loop().time() + 20,
            stop=lambda: False,
            trace_id="",
        )


@pytest.fixture
async def world(store_server: Server, tmp_path: Path) -> AsyncIterator[World]:
    inner = S3Blobs(store_place(store_server), SystemClock())
    await inner.make_bucket()
    async with fault_proxy(store_server.port) as link:
        world = World(Services(PiecedBlobs(inner), link), link, tmp_path)
        yield world
        world.blobs.close()
    await inner.close()


async def test_a_small_update_goes_up_in_one(world: World) -> None:
    data = os.urandom(2 * MB)
    assert await world.insist(world.upload_of(data)) == 0
    assert world.services.asked == 1
    assert (
        await world.services.blobs.list(keys.pieces("resumes", CLIENT, blob_of(data).digest)) == []
    )
    assert await world.services.blobs.get(update_key(blob_of(data)), len(data)) == data


async def test_what_breaks_in_one_goes_up_in_pieces(world: World) -> None:
    data = os.urandom(6 * MB)
    world.link.cut_every_bytes = 4 * MB
    assert await world.insist(world.upload_of(data)) >= 1
    assert await world.services.blobs.get(update_key(blob_of(data)), len(data)) == data


async def test_an_upload_goes_on_after_its_grants_expired(world: World) -> None:
    data = os.urandom(20 * MB)
    world.services.lifetimes = [LIFETIME_S, LIFETIME_S, EXPIRED_S]
    failed = await world.insist(world.upload_of(data))
    assert failed == 1
    assert world.known.piece_bytes > 512 * 1024  # that was no fault of the link
    assert await world.services.blobs.get(update_key(blob_of(data)), len(data)) == data
    assert world.link.sent < 1.15 * len(data)  # the refused piece was perhaps sent, too


async def test_another_process_sends_what_is_missing_only(world: World) -> None:
    data = os.urandom(20 * MB)
    first = world.upload_of(data)
    world.link.cut_every_bytes = 8 * MB
    with pytest.raises(StoreAway):
        await world.uploader.upload(first)
    world.link.cut_every_bytes = None
    before, begun = world.link.sent, first.place
    assert begun > 3 * MB
    again = World(world.services, world.link, world.folder)
    assert again.known.piece_bytes == world.known.piece_bytes
    assert await again.insist(again.upload_of(data)) == 0
    assert world.link.sent - before < 1.02 * (len(data) - begun)
    await again.insist(again.upload_of(data))  # it is all there: nothing is sent
    assert world.link.sent - before < 1.02 * (len(data) - begun)
    again.blobs.close()


async def test_a_download_goes_on_after_cuts_and_expired_grants(world: World) -> None:
    data = os.urandom(20 * MB)
    await world.services.blobs.put(keys.model("resumes", blob_of(data).digest), [data])
    world.link.cut_every_bytes = 6 * MB
    world.services.lifetimes = [LIFETIME_S, EXPIRED_S]
    assert await world.fetch(data, Models(None, 1)) == data
    assert world.link.received < 1.05 * len(data)


async def test_a_download_goes_on_in_another_process(world: World) -> None:
    data = os.urandom(20 * MB)
    await world.services.blobs.put(keys.model("resumes", blob_of(data).digest), [data])
    folder = world.folder / "cache"
    world.link.bytes_per_s = 20 * MB
    fetching = asyncio.wait_for(world.fetch(data, Models(folder, 4, owner="me")), 0.6)
    with pytest.raises(TimeoutError):
        await fetching
    world.link.bytes_per_s = None
    world.link.cut()
    [partial] = folder.iterdir()
    assert partial.stat().st_size > MB
    world.link.received = 0
    models = Models(folder, 4, owner="me")
    assert await world.fetch(data, models) == data
    assert world.link.received < 1.05 * (len(data) - MB)
    assert [path.suffix for path in folder.iterdir()] == [".safetensors"]


async def test_a_silent_link_is_given_up(world: World) -> None:
    world.blobs.close()
    blobs = Blobs(0.3)
    uploader = Uploader(world.asker, blobs, world.known)
    world.link.is_stalled = True
    with pytest.raises(StoreAway, match="timed out"):
        await uploader.upload(world.upload_of(os.urandom(MB)))
    world.link.is_stalled = False
    blobs.close()


async def test_a_slow_link_is_not_taken_for_a_silent_store(world: World) -> None:
    world.blobs.close()
    blobs = Blobs(0.5)
    world.link.bytes_per_s = MB
    data = os.urandom(2 * MB)
    assert await Uploader(world.asker, blobs, world.known).upload(world.upload_of(data)) is None
    blobs.close()
