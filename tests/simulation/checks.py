"""What must hold when a simulation is over: the invariants of design.md 3, from the streams themselves."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta

from fedbus_auditor.api import Absence, FoundBlob
from fedbus_auditor.api import Stored as Line
from fedbus_auditor.export import bundle
from fedbus_core.audit.findings import Level
from fedbus_core.audit.replay import replay
from fedbus_core.audit.verify import verify
from fedbus_core.rounds.effects import live_round
from fedbus_core.rounds.log import read_entry
from fedbus_core.rounds.mail import addressees
from fedbus_core.rounds.state import Session, SessionPhase
from fedbus_schemas import subjects
from fedbus_schemas.asks import SessionReceipt, Stored
from fedbus_schemas.codec import read
from fedbus_schemas.events import (
    ClosingReason,
    RoundClosing,
    RoundCompleted,
    RoundFailed,
    RoundOpened,
    RoundReopened,
)
from fedbus_schemas.registry import ClientRecord
from fedbus_schemas.tasks import Fate, SignedMail, TrainTask

from tests.simulation.clients import PROJECT, TRUST
from tests.simulation.plan import COMBINERS, CONTROLLERS
from tests.simulation.seams import check_signature, device_of
from tests.simulation.world import World

PROMPT = timedelta(seconds=35)
PROMPT_DEADLINE_S = 60.0
"""A round that had its target long before such a deadline must not have waited for it."""


@dataclass(slots=True)
class Attempt:
    """What the log says of one attempt."""

    opened: RoundOpened
    closing: RoundClosing | None = None
    completed: RoundCompleted | None = None
    failed: RoundFailed | None = None
    reopened: list[RoundReopened] = field(default_factory=list)

    def fate(self, client: str) -> Fate:
        """What became of a stored update of this client's."""
        ended = self.completed or self.failed
        if self.completed is not None and client in self.completed.counted:
            return Fate.COUNTED
        if ended is not None and client in {one.client for one in ended.refused}:
            return Fate.REFUSED
        return Fate.GIVEN_UP if self.completed is None else Fate.LATE


def check(world: World, models: Mapping[str, str]) -> list[str]:
    """Give what does not hold. `models` are the digests that undisturbed sessions end with."""
    found = list(world.violations)
    if found:
        return found
    clients = _clients(world)
    for name in world.names:
        state = world.fold(name)
        if state is None:
            return [*world.violations, f"{name} has no log"]
        attempts = _attempts(world, name)
        found += _check_counted(world, name, attempts)
        found += _check_audit(world, name)
        found += _check_redis(world, state)
        found += _check_mail(world, state)
        found += _check_told(world, name, attempts, clients)
        if (state.phase is SessionPhase.COMPLETED) == world.plan.fails:
            found.append(f"{name} ended as {state.phase}: {state.reason}")
        if state.model.digest != models.get(name, state.model.digest):
            found.append(f"{name}: the model is {state.model.digest}, not {models[name]}")
    dead = world.stream("DEAD").messages.values()
    found += [f"a dead letter: {one.subject} {one.headers}" for one in dead]
    for context in world.loop.faults:
        found.append(f"the loop was told: {context.get('message')} {context.get('exception')!r}")
    return found


def _clients(world: World) -> dict[str, str]:
    """Each client's pseudonym, by device."""
    records = (read(ClientRecord, one.data) for one in world.stream("REGISTRY").messages.values())
    return {record.device: record.client for record in records}


def _attempts(world: World, session: str) -> dict[tuple[int, int], Attempt]:
    attempts: dict[tuple[int, int], Attempt] = {}
    for data in _log(world, session):
        for event in read_entry(data)[1]:
            match event:
                case RoundOpened():
                    attempts[event.round, event.attempt] = Attempt(event)
                case RoundClosing():
                    attempts[event.round, event.attempt].closing = event
                case RoundCompleted():
                    attempts[event.round, event.attempt].completed = event
                case RoundFailed():
                    attempts[event.round, event.attempt].failed = event
                case RoundReopened():
                    attempts[event.round, event.attempt].reopened.append(event)
                case _:
                    pass
    return attempts


def _log(world: World, session: str) -> list[bytes]:
    kept = world.stream("EVENTS")
    places = kept.sequences.get(subjects.event(PROJECT, session), [])
    return [kept.messages[place].data for place in places]


def _check_counted(
    world: World, session: str, attempts: Mapping[tuple[int, int], Attempt]
) -> Iterator[str]:
    """I3: exactly what is stored up to the cut-off is counted or refused, each once; the three numbers hold."""
    kept = world.stream("UPDATES")
    for (number, attempt), seen in attempts.items():
        place = f"{session} round {number}.{attempt}"
        pattern = subjects.update(PROJECT, session, number, "*", attempt)
        stored = {subjects.token(name, 5): kept.sequences[name] for name in kept.matching(pattern)}
        twice = [client for client, places in stored.items() if len(places) != 1]
        if twice:
            yield f"{place}: stored more than once: {twice}"
        ended = seen.completed or seen.failed
        if ended is None:
            continue
        cutoff = seen.closing.cutoff if seen.closing is not None else 0
        wanted = {client for client, places in stored.items() if places[0] <= cutoff}
        counted = list(seen.completed.counted) if seen.completed is not None else []
        refused = [one.client for one in ended.refused]
        if seen.completed is not None and sorted(counted + refused) != sorted(wanted):
            yield f"{place}: stored {sorted(wanted)}, counted {counted}, refused {refused}"
        if seen.completed is not None and len(counted) < seen.opened.minimum:
            yield f"{place}: completed with {len(counted)}, the minimum is {seen.opened.minimum}"
        deadline = seen.closing is not None and seen.closing.reason is ClosingReason.DEADLINE
        late = deadline or len(wanted) >= len(seen.opened.cohort)
        if seen.completed is not None and len(counted) < seen.opened.target and not late:
            yield f"{place}: closed at {len(counted)}, the target is {seen.opened.target}"
        if deadline and world.plan.deadline_s >= PROMPT_DEADLINE_S:
            times = sorted(kept.messages[places[0]].time for places in stored.values())
            reached = times[seen.opened.target - 1 : seen.opened.target]
            if reached and seen.opened.deadline - reached[0] > PROMPT:
                yield f"{place}: had its target at {reached[0]}, was closed by its deadline"


def _check_audit(world: World, session: str) -> Iterator[str]:
    """I4, I5, I6: chain, signatures, sets and blobs; every model made again from the updates."""
    reader = _Memory(b"".join(bundle(_Source(world, session), PROJECT, session)))
    report = verify(reader, (TRUST,), check_signature)
    for finding in report.findings:
        if finding.level is Level.ERROR:
            yield f"{session}: verify: {finding.code} at {finding.place}: {finding.detail}"
    again = replay(reader, batch_size=2, order_seed=world.plan.seed)
    if not again.ok:
        rounds = [one for one in again.rounds if one.expected != one.found]
        yield f"{session}: replay: {again.problem} {rounds}"


def _check_redis(world: World, state: Session) -> Iterator[str]:
    """I1: what Redis holds of the session is what the log folds to, unless Redis itself was hurt."""
    live = world.redis.content.rounds.get((PROJECT, state.session))
    wanted = live_round(state)
    if live is None or live.number < wanted.number:
        if "redis" not in world.hurt:
            yield f"{state.session}: Redis holds {live}, the log says {wanted}"
    elif live != wanted:
        yield f"{state.session}: Redis holds {live}, the log says {wanted}"
    kept = world.stream("UPDATES")
    over = [key for key in world.redis.content.attempts if key.session == state.session]
    if over and state.ended and _was_in_order(world):
        yield f"{state.session}: Redis still counts {over}"
    partials = [key for key in world.blobs.content if f"/partials/{state.session}/" in key]
    if partials and state.ended and _had_its_store(world):
        yield f"{state.session}: partials that nobody needs: {partials}"
    for key, attempt in world.redis.content.attempts.items():
        for client, sequence in attempt.stored.items():
            place = subjects.update(PROJECT, key.session, key.round, client, key.attempt)
            if kept.sequences.get(place) != [sequence]:
                yield f"Redis counts {client} in {key} at {sequence}, it is not stored there"


def _was_in_order(world: World) -> bool:
    """Whether no count can have come after its attempt was forgotten: that one its lifetime ends."""
    noise = world.plan.noise
    return not world.plan.faults and not (noise.hold or noise.duplicate or noise.loss)


def _had_its_store(world: World) -> bool:
    """Whether nothing came between the services and the object store, and no combiner woke up late: the
    partial that it writes then is a cache that the next round's end deletes.
    """
    cut = any(
        fault.kind == "cut_store" or (fault.kind == "pause" and fault.target in COMBINERS)
        for fault in world.plan.faults
    )
    return not cut and not world.plan.noise.loss and "store" not in world.hurt


def _check_mail(world: World, state: Session) -> Iterator[str]:
    """No mail is older than the newest state, and no train task stays of an attempt that is over."""
    concerned = set(addressees(state))
    killed = _killed_when_it_woke(world)
    for message in world.stream("MBOX").messages.values():
        if subjects.token(message.subject, 4) != state.session:
            continue
        mail = read(SignedMail, message.data).content()
        if mail.client in concerned and mail.number != state.mail_number and not killed:
            yield f"{state.session}: mail {mail.number} of {mail.client}, newest {state.mail_number}"
        for task in mail.tasks:
            if isinstance(task, TrainTask) and state.ended and not killed:
                yield f"{state.session}: {mail.client} is still asked to train {task.round}"


def _killed_when_it_woke(world: World) -> bool:
    """Whether a controller was stopped and killed: it may have written an old mail in between, and never
    looked again. Clients drop it by its number.
    """
    kinds = {(fault.target, fault.kind) for fault in world.plan.faults}
    return any((name, "pause") in kinds and (name, "crash") in kinds for name in CONTROLLERS)


def _check_told(
    world: World,
    session: str,
    attempts: Mapping[tuple[int, int], Attempt],
    clients: Mapping[str, str],
) -> Iterator[str]:
    """Every receipt is true; whoever was told "stored" and did not lose its memory got one."""
    heard: dict[tuple[str, int, int], Fate] = {}
    for told in world.receipts:
        receipt = told.what
        assert isinstance(receipt, SessionReceipt)
        if receipt.session != session:
            continue
        name = told.process.name
        seen = attempts.get((receipt.round, receipt.attempt))
        client = clients[device_of(name)]
        fate = seen.fate(client) if seen is not None else None
        if receipt.fate is not fate:
            yield f"{name}: told {receipt.fate} of {receipt.round}.{receipt.attempt}, it is {fate}"
        heard[name, receipt.round, receipt.attempt] = receipt.fate
    forgetful = {one.name for one in world.plan.clients if not one.durable or one.kind == "liar"}
    for told in world.stored:
        stored = told.what
        assert isinstance(stored, Stored)
        place = (told.process.name, stored.round, stored.attempt)
        if stored.session == session and place not in heard and place[0] not in forgetful:
            yield f"{place[0]}: never heard what became of {session} {stored.round}.{stored.attempt}"


@dataclass(frozen=True, slots=True)
class _Memory:
    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def read_at(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]


@dataclass(frozen=True, slots=True)
class _Source:
    """A session's audit material, as the api would give it."""

    world: World
    session: str

    def trust(self) -> tuple[str, ...]:
        return (TRUST,)

    def log(self) -> Iterator[Line]:
        return self._lines("EVENTS", subjects.event(PROJECT, self.session))

    def heads(self) -> Iterator[Line]:
        return self._lines("HEADS", subjects.head(PROJECT, self.session, "*"))

    def updates(self, round_number: int, attempt: int) -> Iterator[Line]:
        pattern = subjects.update(PROJECT, self.session, round_number, "*", attempt)
        return self._lines("UPDATES", pattern)

    def blob(self, key: str) -> AbstractContextManager[FoundBlob | Absence]:
        data = self.world.blobs.content.get(key)
        if data is None:
            return nullcontext("missing")
        return nullcontext(FoundBlob(len(data), iter([data])))

    def _lines(self, stream: str, pattern: str) -> Iterator[Line]:
        kept = self.world.stream(stream)
        for name in kept.matching(pattern):
            for sequence in kept.sequences[name]:
                yield Line(sequence, kept.messages[sequence].data)
