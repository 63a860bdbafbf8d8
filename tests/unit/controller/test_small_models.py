"""Small models that come with the result that made them: believed only by their hash."""

import base64

import pytest
from fedbus_controller.small_models import SmallModels
from fedbus_runtime.errors import BlobMissing
from fedbus_runtime.memory_blobs import MemoryBlobs
from fedbus_schemas import keys
from fedbus_schemas.codec import digest
from fedbus_schemas.models import ModelRef

P = "default"
DATA = b"a small model"
MODEL = ModelRef(digest=digest(DATA), size=len(DATA), layout="1" * 64, exponents=(0,))
TEXT = base64.b64encode(DATA).decode()


async def test_what_came_along_is_not_fetched() -> None:
    small = SmallModels(MemoryBlobs())
    small.offer(P, MODEL, TEXT)
    assert await small.read(P, MODEL) == TEXT


@pytest.mark.parametrize("text", ["not base64!", base64.b64encode(b"another one").decode()])
async def test_what_is_another_model_is_not_believed(text: str) -> None:
    small = SmallModels(MemoryBlobs())
    small.offer(P, MODEL, text)
    with pytest.raises(BlobMissing):
        await small.read(P, MODEL)


async def test_what_did_not_come_along_is_fetched_once() -> None:
    store = MemoryBlobs()
    await store.put(keys.model(P, MODEL.digest), [DATA])
    small = SmallModels(store)
    assert await small.read(P, MODEL) == TEXT
    await store.delete([keys.model(P, MODEL.digest)])
    assert await small.read(P, MODEL) == TEXT
