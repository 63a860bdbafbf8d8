"""Small true sessions, made in memory as the services make them, and bundles of them to be spoilt."""

import base64
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256
from typing import Any

import numpy as np
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from fedbus_core.aggregation import tensorfile
from fedbus_core.aggregation.metrics import weighted_metrics
from fedbus_core.aggregation.round_sum import Content, RoundSum, model_ref, rule_version
from fedbus_core.audit.bundle import (
    AbsentBlob,
    Bundle,
    Index,
    Item,
    blob_name,
    head_name,
    log_name,
    order,
    update_name,
    write,
)
from fedbus_core.audit.chain import SIGNED
from fedbus_core.audit.findings import Code, Level, Report
from fedbus_core.audit.replay import ReplayReport
from fedbus_core.audit.replay import replay as replay_reader
from fedbus_core.audit.verify import verify as verify_reader
from fedbus_core.rounds.decide import Facts, decide
from fedbus_core.rounds.log import fold, read_entry, seal
from fedbus_core.rounds.state import Session
from fedbus_schemas import keys, signing
from fedbus_schemas.envelope import GENESIS, Head, SignedHead
from fedbus_schemas.events import Participant, RefusedUpdate
from fedbus_schemas.inputs import DeadlineFired, Input, TargetReached
from fedbus_schemas.models import BlobRef
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.sessions import PauseSession, SessionSettings, StartSession, StopSession
from fedbus_schemas.sets import IncludedSet, IncludedUpdate
from fedbus_schemas.updates import Manifest, SignedManifest, StoredUpdate
from fedbus_schemas.work import FinishResult

PROJECT, SESSION = "default", "s-audit"
CLIENTS = tuple(f"c{letter * 16}" for letter in "abc")
START = datetime(2026, 1, 1, tzinfo=UTC)


def digest(data: bytes) -> str:
    return sha256(data).hexdigest()


class Key:
    """A signing key made from a name."""

    def __init__(self, name: str) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(sha256(name.encode()).digest())
        self.public = signing.encode(self._private.public_key().public_bytes_raw())

    def sign(self, domain: bytes, content: str) -> str:
        return signing.encode(self._private.sign(signing.message(domain, content)))


CONTROLLER = Key("controller")
STRANGER = Key("stranger")
KEYS = {client: Key(client) for client in CLIENTS}


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


@dataclass
class World:
    """All that an export reads, by member."""

    log: list[bytes] = field(default_factory=list)
    heads: dict[int, bytes] = field(default_factory=dict)
    updates: dict[str, bytes] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    absent: list[AbsentBlob] = field(default_factory=list)
    trust: tuple[str, ...] = (CONTROLLER.public,)

    def copy(self, **changes: Any) -> "World":
        mine = replace(
            self,
            log=list(self.log),
            heads=dict(self.heads),
            updates=dict(self.updates),
            blobs=dict(self.blobs),
            absent=list(self.absent),
        )
        return replace(mine, **changes)

    def members(self) -> dict[str, bytes]:
        index = Index(
            project=PROJECT,
            session=SESSION,
            entries=len(self.log),
            absent=tuple(self.absent),
            trust=self.trust,
        )
        return {
            **{log_name(number): data for number, data in enumerate(self.log, start=1)},
            **{head_name(number): data for number, data in self.heads.items()},
            **self.updates,
            **{blob_name(key): data for key, data in self.blobs.items()},
            "index.json": index.to_bytes(),
        }

    def bundle(self) -> bytes:
        return pack(self.members())

    def events(self, number: int) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = json.loads(self.log[number - 1])["events"]
        return events

    def entries_with(self, type_: str) -> list[int]:
        """The numbers of the entries that hold an event of this type."""
        return [
            number
            for number, _ in enumerate(self.log, start=1)
            if any(event["type"] == type_ for event in self.events(number))
        ]

    def without_models(self) -> "World":
        """Leave out every derived model, as `export --without-models` does."""
        first = self.events(1)[0]["data"]["model"]["digest"]
        gone = {k: v for k, v in self.blobs.items() if "/models/" in k and not k.endswith(first)}
        absent = [AbsentBlob(key=k, size=len(v), why="left_out") for k, v in sorted(gone.items())]
        blobs = {key: data for key, data in self.blobs.items() if key not in gone}
        return self.copy(blobs=blobs, absent=[*self.absent, *absent])


def pack(members: Mapping[str, bytes]) -> bytes:
    """Write members as a bundle, with right checksums."""
    names = sorted((name for name in members if name != "SHA256SUMS"), key=order)
    return b"".join(write(Item(name, len(members[name]), [members[name]]) for name in names))


def verify(
    bundle: bytes, *, trust: Sequence[str] | None = (CONTROLLER.public,), removed: bool = False
) -> Report:
    return verify_reader(Memory(bundle), trust, check_signature, models_removed=removed)


def replay(bundle: bytes, **options: Any) -> ReplayReport:
    chosen = {"batch_size": 3, "order_seed": 1, **options}
    return replay_reader(Memory(bundle), **chosen)


def codes(report: Report, level: Level = Level.ERROR) -> set[Code]:
    return {finding.code for finding in report.findings if finding.level is level}


class Maker:
    """Runs a session: decides, seals, signs, stores updates and finishes rounds, as the services do."""

    def __init__(self, settings: SessionSettings, shape: tuple[int, ...] = (3,)) -> None:
        self.world = World()
        self.state: Session | None = None
        self.now = START
        self.sequence = 0
        self.online: tuple[str, ...] = CLIENTS
        self._stored: dict[tuple[int, int], dict[str, tuple[int, StoredUpdate]]] = {}
        self._uploads: dict[str, bytes] = {}
        self._causes = 0
        values = np.arange(float(np.prod(shape)), dtype=np.float32).reshape(shape)
        model = tensorfile.write(
            {"steps": np.array(1, np.int64), "w": values, "on": np.array([True, False])}
        )
        self.world.blobs[keys.model(PROJECT, digest(model))] = model
        self.give(StartSession(session=SESSION, settings=settings, model=model_ref(model)))

    def give(self, given: Input, *, cutoff: int = 0) -> None:
        """Hand an input to the controller that it must act on."""
        refused = self.offer(given, cutoff=cutoff)
        assert not refused, refused

    def offer(self, given: Input, *, cutoff: int = 0) -> str:
        """Hand an input to the controller; what it decides is sealed, stored and signed."""
        self._causes += 1
        cause = f"input-{self._causes}"
        online = tuple(Participant(client=one, key=KEYS[one].public) for one in self.online)
        facts = Facts(PROJECT, SESSION, cause, self.now, online, cutoff)
        decision = decide(self.state, given, facts)
        if not decision.events:
            assert decision.refusal is not None
            return decision.refusal.detail or "refused"
        data = seal(self.state, PROJECT, SESSION, decision.events, cause, self.now)
        self.state = fold(self.state, data, self.state.number + 1 if self.state else 1)
        self.world.log.append(data)
        if any(isinstance(event, SIGNED) for event in decision.events):
            self.world.heads[self.state.number] = signed_head(self.state.number, data)
        return ""

    @property
    def open(self) -> tuple[int, int]:
        assert self.state is not None
        assert self.state.round is not None
        return self.state.round.number, self.state.round.attempt

    def store(
        self,
        client: str,
        weight: int,
        *,
        inline: bool = True,
        bad: bool = False,
        metrics: Mapping[str, float] | None = None,
        at: tuple[int, int] | None = None,
    ) -> None:
        """Store an update of the attempt `at`; a bad one holds NaN."""
        number, attempt = at or self.open
        assert self.state is not None
        base = self.world.blobs[keys.model(PROJECT, self.state.model.digest)]
        update = trained(base, f"{client}/{number}/{attempt}", bad=bad)
        manifest = Manifest(
            project=PROJECT,
            session=SESSION,
            round=number,
            attempt=attempt,
            client=client,
            base=self.state.model.digest,
            update=BlobRef(digest=digest(update), size=len(update)),
            weight=weight,
            metrics=dict(metrics or {"loss": 0.1 + weight / 7}),
        )
        content = manifest.to_bytes().decode()
        stored = StoredUpdate(
            manifest=content,
            key=KEYS[client].public,
            signature=KEYS[client].sign(signing.MANIFEST, content),
            inline=base64.b64encode(update).decode() if inline else None,
        )
        self.sequence += 3  # other sessions store updates in between
        name = update_name(number, attempt, self.sequence, client)
        self.world.updates[name] = stored.to_bytes()
        self._stored.setdefault((number, attempt), {})[client] = (self.sequence, stored)
        if not inline:
            self._uploads[keys.update(PROJECT, client, digest(update))] = update

    def may_store(self, client: str) -> bool:
        """Whether the door would let an update of this client in now."""
        assert self.state is not None
        assert self.state.round is not None
        invited = {one.client for one in self.state.round.cohort}
        return client in invited and client not in self._stored.get(self.open, {})

    def stored_until(self) -> int:
        """The sequence of the last update stored for the open attempt; 0 if there is none."""
        assert self.state is not None
        stored = self._stored.get(self.open, {}) if self.state.round else {}
        return max((sequence for sequence, _ in stored.values()), default=0)

    def close(self, *, deadline: bool = False) -> None:
        """Let the round close at what is stored now, and finish it."""
        number, attempt = self.open
        assert self.state is not None
        assert self.state.round is not None
        cutoff = self.stored_until()
        if deadline:
            self.now = due = self.state.round.deadline
            self.give(DeadlineFired(round=number, attempt=attempt, due=due), cutoff=cutoff)
        else:
            self.offer(TargetReached(round=number, attempt=attempt), cutoff=cutoff)

    def finish(self) -> None:
        """Do what a combiner does with a finish item."""
        self.now += timedelta(seconds=1)
        result, blobs = self._result()
        self.give(result, cutoff=self.stored_until())
        if result.model is not None and self.state and self.state.model == result.model:
            self.world.blobs.update(blobs)  # what the log does not name is not exported

    def stop(self) -> None:
        self.give(StopSession(reason="enough"))

    def _result(self) -> tuple[FinishResult, dict[str, bytes]]:
        assert self.state is not None
        round_ = self.state.round
        assert round_ is not None
        assert round_.closing is not None
        base = self.world.blobs[keys.model(PROJECT, round_.model.digest)]
        layout = tensorfile.parse_layout(base, len(base))
        total = RoundSum(layout, round_.model.exponents, self.state.settings.numbers)
        counted: list[IncludedUpdate] = []
        refused: list[RefusedUpdate] = []
        for client, (sequence, stored) in sorted(self._stored.get(self.open, {}).items()):
            if sequence > round_.closing.cutoff:
                continue
            manifest = stored.content()
            (finding,) = total.add([Content(self._bytes(client, stored), manifest.weight)])
            if finding is not None:
                refused.append(
                    RefusedUpdate(client=client, code=finding.code, detail=finding.detail)
                )
                continue
            counted.append(
                IncludedUpdate(
                    client=client,
                    sequence=sequence,
                    update=manifest.update,
                    weight=manifest.weight,
                    signed=SignedManifest(
                        manifest=stored.manifest, key=stored.key, signature=stored.signature
                    ),
                )
            )
        assert all(one.code is RefusalCode.NOT_FINITE for one in refused)
        place = {
            "round": round_.number,
            "attempt": round_.attempt,
            "step": round_.step,
            "refused": tuple(refused),
            "rule": rule_version(self.state.settings.aggregator),
        }
        if not counted:
            return FinishResult.model_validate(place), {}
        model, ref = total.model(self.state.settings.aggregator, base)
        included = IncludedSet(
            project=PROJECT,
            session=SESSION,
            round=round_.number,
            attempt=round_.attempt,
            base=round_.model.digest,
            updates=tuple(counted),
        ).to_bytes()
        manifests = [one.signed.content() for one in counted]
        result = FinishResult.model_validate(
            {
                **place,
                "model": ref,
                "included": BlobRef(digest=digest(included), size=len(included)),
                "counted": tuple(one.client for one in counted),
                "weight": sum(one.weight for one in counted),
                "metrics": weighted_metrics((one.weight, one.metrics) for one in manifests),
                "workers": ("combiner-1",),
            }
        )
        blobs = {
            keys.model(PROJECT, ref.digest): bytes(model),
            keys.included_set(PROJECT, digest(included)): included,
            **{key: self._uploads[key] for one in counted if (key := _key(one)) in self._uploads},
        }
        return result, blobs

    def _bytes(self, client: str, stored: StoredUpdate) -> bytes:
        if stored.inline is not None:
            return base64.b64decode(stored.inline)
        return self._uploads[keys.update(PROJECT, client, stored.content().update.digest)]


def _key(one: IncludedUpdate) -> str:
    return keys.update(PROJECT, one.client, one.update.digest)


def trained(base: bytes, name: str, *, bad: bool = False) -> bytes:
    """An update to a model: the same for the same name."""
    layout = tensorfile.parse_layout(base, len(base))
    tensors = dict(tensorfile.views(layout, base))
    noise = np.frombuffer(sha256(name.encode()).digest() * 64, np.uint8)
    weights = np.array(tensors["w"], np.float32)
    step = np.resize(noise, weights.shape).astype(np.float32) / np.float32(997)
    tensors["w"] = np.full_like(weights, np.nan) if bad else weights + step
    tensors["steps"] = np.array(int(noise[0]), np.int64)
    tensors["on"] = np.array([noise[1] > 127, noise[2] > 127])
    return tensorfile.write(tensors)


def signed_head(number: int, entry: bytes, key: Key = CONTROLLER) -> bytes:
    head = Head(project=PROJECT, session=SESSION, number=number, entry=digest(entry))
    content = head.to_bytes().decode()
    return SignedHead(
        head=content, key=key.public, signature=key.sign(signing.HEAD, content)
    ).to_bytes()


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
