"""The one place where production code is changed for a simulation, and only while one runs.

Chance, secrets, wall clocks and threads come from the loop; signatures are keyed hashes, because Ed25519 would
take most of a run's time (`tests/unit` and `tests/contract` check the real ones); updates that a client
keeps, and what it sends to the object store, go through the simulated world.
"""

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TypeVar
from unittest import mock

from fedbus_schemas import nkeys, signing
from fedbus_schemas.credentials import Credentials
from fedbus_schemas.tasks import SignedMail

from tests.simulation.loop import running
from tests.simulation.processes import current

T = TypeVar("T")
EPOCH_S = 1_767_225_600.0
"""2026-01-01, the wall clock's start; as `memory_clock.START`."""


class LoopChance:
    """Stands for a `SystemRandom`."""

    def uniform(self, low: float, high: float) -> float:
        return running().chance.uniform(low, high)


class LoopSecrets:
    """Stands for the module `secrets`."""

    def token_bytes(self, count: int) -> bytes:
        return running().chance.randbytes(count)

    def token_hex(self, count: int) -> str:
        return running().chance.randbytes(count).hex()


class LoopTime:
    """Stands for the module `time`: a client's clocks, of which the wall clock is wrong by its `skew_s`."""

    def time(self) -> float:
        return EPOCH_S + running().time() + current().skew_s

    def monotonic(self) -> float:
        return running().time()


# Signatures: whoever knows the public key could forge one. The simulation's liars do not.


@lru_cache(maxsize=4096)
def signature(key: str, message: bytes) -> str:
    """Sign, in the form of an Ed25519 signature."""
    return signing.encode(hashlib.blake2b(message, key=key.encode()).digest())


def public_key(name: str) -> str:
    """Make a key from a name, in the form of an Ed25519 key."""
    return signing.encode(hashlib.sha256(name.encode()).digest())


def check_signature(key: str, message: bytes, made: str) -> bool:
    """Say whether the key made this signature."""
    return signature(key, message) == made


def verify(key: str, domain: bytes, content: str, made: str) -> bool:
    """As `signing_keys.verify`."""
    return check_signature(key, signing.message(domain, content), made)


class SimSigner:
    """As `signing_keys.Signer`: the file's name is the secret."""

    def __init__(self, seed_file: Path) -> None:
        self.public = public_key(seed_file.name)

    def sign(self, domain: bytes, content: str) -> str:
        return signature(self.public, signing.message(domain, content))


@lru_cache(maxsize=256)
def device_of(name: str) -> str:
    """Make a device key from a client's name."""
    return nkeys.user_public(hashlib.sha256(f"device/{name}".encode()).digest())


class SimKeys:
    """As `fedbus._keys.Keys`, made from the client's name."""

    def __init__(self, credentials: Credentials) -> None:
        self.device = device_of(credentials.name)
        self.public = public_key(credentials.name)
        self.token = credentials.token
        self._trust = credentials.trust

    def sign(self, domain: bytes, content: str) -> str:
        return signature(self.public, signing.message(domain, content))

    def trusts(self, signed: SignedMail) -> bool:
        return signed.key in self._trust and verify(
            signed.key, signing.MAIL, signed.mail, signed.signature
        )


# Threads: the call runs in the loop, after the time it takes.


class SimWorker:
    """As `fedbus._threads.Worker`: the compute thread of a client, which takes the client's time."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def run(self, call: Callable[[], T]) -> T:
        await asyncio.sleep(current().compute_s)
        return call()

    def close(self, last: Callable[[], None] | None = None) -> None:
        """Nothing runs outside the loop; what was to be done last is done now."""
        if last is not None:
            last()


async def run_thread(call: Callable[[], T], name: str) -> T:
    """As `fedbus._threads.run`."""
    await asyncio.sleep(0)
    return call()


SEAMS: dict[str, object] = {
    "fedbus_runtime.consumer._chance": LoopChance(),
    "fedbus_runtime.memory_blobs.secrets": LoopSecrets(),
    "fedbus_combiner.asks.secrets": LoopSecrets(),
    "fedbus_combiner.asks.verify": verify,
    "fedbus_combiner.ingest.verify": verify,
    "fedbus_combiner.main.self_test": lambda: None,  # 10 ms of arithmetic; `tests/unit` runs it
    "fedbus_controller.main.Signer": SimSigner,
    "fedbus._backoff._chance": LoopChance(),
    "fedbus._jobs.time": LoopTime(),
    "fedbus._work.time": LoopTime(),
    "fedbus._threads.run": run_thread,
    "fedbus._threads.Worker": SimWorker,
    "fedbus.client.Keys": SimKeys,
    "fedbus._participation.Blobs": lambda timeout_s: current().transfers,
    "fedbus._opening.kept": lambda options, device: current().kept,
}


@contextmanager
def seams() -> Iterator[None]:
    """Put the stand-ins in their places, and the production code back at the end."""
    with ExitStack() as stack:
        for place, stand_in in SEAMS.items():
            stack.enter_context(mock.patch(place, stand_in))
        yield
