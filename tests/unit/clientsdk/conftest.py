"""A controller's side of the wire, for tests of a client: keys, models, mail."""

import base64
import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from Crypto.PublicKey import ECC
from Crypto.Signature import eddsa
from fedbus import _tensorfile
from fedbus._blobs import Blobs
from fedbus._keys import Keys
from fedbus.errors import StoreAway
from fedbus_schemas import nkeys, signing
from fedbus_schemas.asks import Grant
from fedbus_schemas.credentials import Credentials
from fedbus_schemas.models import BlobRef
from fedbus_schemas.tasks import (
    CommandMail,
    Mail,
    ModelToFetch,
    SignedMail,
    TrainTask,
    ValidateTask,
)

from tests.unit.clientsdk.services import Services

CLIENT = "c" + "a" * 16


def _key(fill: int) -> ECC.EccKey:
    return eddsa.import_private_key(bytes([fill]) * 32)


@dataclass
class World:
    """Fixed keys, so that a failure can be repeated."""

    controller: ECC.EccKey = field(default_factory=lambda: _key(1))
    client: str = CLIENT

    @property
    def credentials(self) -> Credentials:
        return Credentials(
            project="demo",
            name="site-1",
            servers=("nats://127.0.0.1:1",),
            device_seed=nkeys.user_seed(bytes([2]) * 32),
            payload_seed=signing.encode(bytes([3]) * 32),
            trust=(self.public(self.controller),),
        )

    @property
    def keys(self) -> Keys:
        return Keys(self.credentials)

    def public(self, key: ECC.EccKey) -> str:
        return signing.encode(key.public_key().export_key(format="raw"))

    def other_key(self) -> ECC.EccKey:
        return _key(9)

    def model_file(self, scale: float = 1.0, size: int = 3) -> bytes:
        arrays = {"b": np.array(scale, np.float32), "w": np.full(size, scale, np.float32)}
        return _tensorfile.write(arrays)

    def model(self, file: bytes | None = None, *, inline: bool = True) -> ModelToFetch:
        data = self.model_file() if file is None else file
        return ModelToFetch(
            digest=hashlib.sha256(data).hexdigest(),
            size=len(data),
            inline=base64.b64encode(data).decode() if inline else None,
        )

    def train(self, number: int = 1, attempt: int = 1, **changes: object) -> TrainTask:
        fields: dict[str, object] = {
            "round": number,
            "attempt": attempt,
            "model": self.model(),
            "settings": {"lr": 0.5},
            "seed": 7,
            "deadline": datetime.now(UTC) + timedelta(seconds=60),  # noqa: TID251
            "weight_max": 1000,
            "inline_bytes_max": 65536,
            "trace_id": "ab" * 16,
        }
        return TrainTask.model_validate(fields | changes)

    def validate(self, number: int = 1) -> ValidateTask:
        return ValidateTask(round=number, model=self.model(), settings={}, trace_id="ab" * 16)

    def mail(self, number: int = 1, session: str = "s-1", **changes: object) -> Mail:
        fields: dict[str, object] = {
            "project": "demo",
            "session": session,
            "number": number,
            "device": self.keys.device,
            "client": self.client,
        }
        return Mail.model_validate(fields | changes)

    def sign(self, mail: Mail | CommandMail, key: ECC.EccKey | None = None) -> SignedMail:
        key = self.controller if key is None else key
        text = mail.to_bytes().decode()
        signature = eddsa.new(key, "rfc8032").sign(signing.message(signing.MAIL, text))
        return SignedMail(mail=text, key=self.public(key), signature=signing.encode(signature))

    def blob(self, data: bytes) -> BlobRef:
        return BlobRef(digest=hashlib.sha256(data).hexdigest(), size=len(data))


@pytest.fixture(scope="session")
def world() -> World:
    return World()


@pytest.fixture
def download(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Let every download go on until it is told to stop; the event says that one has begun."""
    begun = threading.Event()

    def get(self: Blobs, grant: Grant, blob: Any, stop: Callable[[], bool]) -> bytearray:
        begun.set()
        while not stop():
            threading.Event().wait(0.001)
        raise StoreAway("left off")

    monkeypatch.setattr(Blobs, "get", get)
    return begun


@pytest.fixture
def services(world: World) -> Services:
    """Services that answer a client of this world."""
    return Services(world)
