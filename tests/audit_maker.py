"""Makes true sessions in memory: decides, seals, signs, stores updates and finishes rounds, as services do."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fedbus_core.aggregation import tensorfile
from fedbus_core.aggregation.metrics import weighted_metrics
from fedbus_core.aggregation.round_sum import Content, RoundSum, model_ref
from fedbus_core.aggregation.rules import rule_of
from fedbus_core.aggregation.rules.rule import Member, SumRule
from fedbus_core.audit.bundle import (
    AbsentBlob,
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
from fedbus_core.rounds.decide import Facts, decide
from fedbus_core.rounds.log import fold, seal
from fedbus_core.rounds.state import Session
from fedbus_schemas import keys, signing
from fedbus_schemas.envelope import Head, SignedHead
from fedbus_schemas.events import Participant, RefusedUpdate
from fedbus_schemas.inputs import DeadlineFired, Input, TargetReached
from fedbus_schemas.models import BlobRef
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.sessions import SessionSettings, StartSession, StopSession
from fedbus_schemas.sets import IncludedSet, IncludedUpdate
from fedbus_schemas.updates import Manifest, SignedManifest, StoredUpdate
from fedbus_schemas.work import FinishResult

PROJECT, SESSION = "default", "s-audit"
CLIENTS = tuple(f"c{letter * 16}" for letter in "abc")
START = datetime(2026, 1, 1, tzinfo=UTC)


def digest(data: bytes | bytearray) -> str:
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
        facts = Facts(PROJECT, SESSION, cause, self.now, online, cutoff, self.stored_count())
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

    def stored_count(self) -> int:
        """How many updates are stored for the open attempt."""
        return len(self._stored.get(self.open, {})) if self.state and self.state.round else 0

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
        rule = rule_of(self.state.settings)
        assert isinstance(rule, SumRule)
        total = RoundSum(layout, round_.model.exponents, self.state.settings.numbers, rule)
        counted: list[IncludedUpdate] = []
        refused: list[RefusedUpdate] = []
        for client, (sequence, stored) in sorted(self._stored.get(self.open, {}).items()):
            if sequence > round_.closing.cutoff:
                continue
            manifest = stored.content()
            (finding,) = total.add(
                [Content(self._bytes(client, stored), manifest.weight, manifest.metrics)]
            )
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
            "rule": rule.id,
        }
        if not counted:
            return FinishResult.model_validate(place), {}
        made = total.model(
            base,
            self._rule_state(),
            [Member(one.client, one.weight, one.signed.content().metrics) for one in counted],
        )
        ref = made.ref
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
                "state": None
                if made.state is None
                else BlobRef(digest=digest(made.state), size=len(made.state)),
            }
        )
        blobs = {
            keys.model(PROJECT, ref.digest): bytes(made.model),
            keys.included_set(PROJECT, digest(included)): included,
            **(
                {keys.rule_state(PROJECT, result.state.digest): bytes(made.state)}
                if made.state is not None and result.state is not None
                else {}
            ),
            **{key: self._uploads[key] for one in counted if (key := _key(one)) in self._uploads},
        }
        return result, blobs

    def _rule_state(self) -> bytearray | None:
        assert self.state is not None
        kept = self.state.rule_state
        if kept is None:
            return None
        return bytearray(self.world.blobs[keys.rule_state(PROJECT, kept.digest)])

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
