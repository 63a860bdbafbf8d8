"""Small true sessions, bundles of them to be spoilt, and the two judges of bundles."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from fedbus_core.audit.bundle import Bundle
from fedbus_core.audit.findings import Code, Level, Report
from fedbus_core.audit.replay import ReplayReport
from fedbus_core.audit.replay import replay as replay_reader
from fedbus_core.audit.verify import verify as verify_reader
from fedbus_core.rounds.log import fold, read_entry
from fedbus_core.rounds.state import Session
from fedbus_schemas import signing
from fedbus_schemas.envelope import GENESIS
from fedbus_schemas.sessions import PauseSession, SessionSettings

from tests.audit_maker import (
    CLIENTS,
    CONTROLLER,
    KEYS,
    PROJECT,
    SESSION,
    START,
    STRANGER,
    Key,
    Maker,
    World,
    digest,
    pack,
    signed_head,
)

__all__ = [
    "CLIENTS",
    "CONTROLLER",
    "KEYS",
    "PROJECT",
    "SESSION",
    "START",
    "STRANGER",
    "Key",
    "Maker",
    "World",
    "digest",
    "pack",
    "signed_head",
]


@cache
def check_signature(key: str, message: bytes, signature: str) -> bool:
    """Strictly check a signature; remembers, so that a test may ask a hundred thousand times."""
    try:
        raw, made = signing.decode(key), signing.decode(signature)
        Ed25519PublicKey.from_public_bytes(raw).verify(made, message)
    except (InvalidSignature, ValueError):
        return False
    return (signing.encode(raw), signing.encode(made)) == (key, signature)


@dataclass(frozen=True)
class Memory:
    """A bundle's bytes as a reader."""

    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def read_at(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]


def verify(
    bundle: bytes, *, trust: Sequence[str] | None = (CONTROLLER.public,), removed: bool = False
) -> Report:
    return verify_reader(Memory(bundle), trust, check_signature, models_removed=removed)


def replay(bundle: bytes, **options: Any) -> ReplayReport:
    chosen = {"batch_size": 3, "order_seed": 1, **options}
    return replay_reader(Memory(bundle), **chosen)


def codes(report: Report, level: Level = Level.ERROR) -> set[Code]:
    return {finding.code for finding in report.findings if finding.level is level}


@cache
def _three_rounds() -> World:
    settings = SessionSettings(rounds=3, target=2, minimum=1, attempts_max=2, train={"lr": 0.1})
    maker = Maker(settings)
    a, b, c = CLIENTS
    # Round 1: two inline updates and one blob; all count.
    maker.store(a, 10)
    maker.store(b, 25, inline=False, metrics={"loss": 0.25, "accuracy": 0.5})
    maker.store(c, 3)
    maker.close()
    maker.finish()
    # Round 2: a first closing finds one valid update and a refused one, and goes on collecting.
    maker.store(c, 7, bad=True)
    maker.store(a, 8, inline=False)
    maker.close()
    maker.finish()
    maker.store(b, 9)
    maker.close()
    maker.finish()
    # Round 3: one attempt fails, the next one is closed by its deadline; one update comes too late.
    maker.store(b, 2, bad=True)
    maker.close(deadline=True)
    maker.finish()
    maker.store(c, 5)
    maker.close(deadline=True)
    maker.store(a, 11)
    maker.finish()
    return maker.world


def three_rounds() -> World:
    """Three clients, three rounds: inline updates and blobs, refused ones, a late one, a failed attempt."""
    return _three_rounds().copy()


@cache
def _one_round() -> World:
    maker = Maker(SessionSettings(rounds=1, minimum=1, target=1, inline_bytes_max=0))
    maker.store(CLIENTS[0], 4)
    maker.store(CLIENTS[1], 6, inline=False)
    maker.close()
    maker.finish()
    return maker.world


def one_round() -> World:
    """One round of two clients."""
    return _one_round().copy()


@cache
def _one_update() -> World:
    maker = Maker(SessionSettings(rounds=1, minimum=1, target=1, inline_bytes_max=0))
    maker.store(CLIENTS[0], 4, inline=False)
    maker.close()
    maker.finish()
    return maker.world


def one_update() -> World:
    """The smallest whole session: one round with one update, which lies in a blob."""
    return _one_update().copy()


@cache
def _still_open() -> World:
    maker = Maker(SessionSettings(rounds=4, minimum=1, target=1))
    for weight in (4, 6):
        maker.store(CLIENTS[0], weight)
        maker.close()
        maker.finish()
    maker.store(CLIENTS[1], 2)
    return maker.world


def still_open() -> World:
    """Two rounds done, a third one open with an update stored."""
    return _still_open().copy()


@cache
def _stopped() -> World:
    maker = Maker(SessionSettings(rounds=4, minimum=1, target=1))
    maker.store(CLIENTS[0], 4)
    maker.close()
    maker.finish()
    maker.store(CLIENTS[1], 2)
    maker.stop()
    return maker.world


def paused() -> World:
    """As `still_open`, and an operator paused the session: an entry that nobody signs."""
    maker = Maker(SessionSettings(rounds=4, minimum=1, target=1))
    maker.store(CLIENTS[0], 4)
    maker.close()
    maker.finish()
    maker.give(PauseSession())
    return maker.world


def stopped() -> World:
    """One round done, the second given up when an operator stopped the session."""
    return _stopped().copy()


def rechain(
    world: World,
    number: int,
    change: Callable[[dict[str, Any]], None],
    *,
    signer: Key | None = None,
) -> World:
    """Change one entry and recompute all hashes after it, as a forger does; heads only with a signer."""
    log: list[bytes] = []
    previous = GENESIS
    for place, data in enumerate(world.log, start=1):
        entry = json.loads(data)
        if place == number:
            change(entry)
        entry["previous"] = previous
        written = json.dumps(entry, separators=(",", ":")).encode()
        if place < number:
            written = data
        log.append(written)
        previous = digest(written)
    forged = world.copy(log=log)
    if signer is not None:
        forged.heads = {n: signed_head(n, log[n - 1], signer) for n in world.heads}
    return forged


def folds(log: Iterable[bytes]) -> Session:
    """Fold a log as a controller does."""
    state: Session | None = None
    for number, data in enumerate(log, start=1):
        read_entry(data)
        state = fold(state, data, number)
    assert state is not None
    return state


def opened(reader: Memory) -> Bundle:
    return Bundle.open(reader)
