"""Makes every model of a session again, from the first model and the updates alone.

The updates are folded in another order and in other batches than the combiners used; since sums are
exact, the SHA-256 must be the one in the log. Memory: two sums, two models and one update at a time.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from fedbus_schemas import keys
from fedbus_schemas.codec import Unreadable, digest, read
from fedbus_schemas.events import RoundCompleted
from fedbus_schemas.models import BlobRef, ModelRef
from fedbus_schemas.sessions import SessionSettings
from fedbus_schemas.sets import IncludedSet, IncludedUpdate
from fedbus_schemas.updates import StoredUpdate

from fedbus_core.aggregation.grid import exponents_of
from fedbus_core.aggregation.round_sum import Content, RoundSum, rule_version
from fedbus_core.aggregation.tensorfile import Buffer, TensorFileError, parse_layout
from fedbus_core.audit.bundle import (
    MESSAGE_BYTES_MAX,
    Bundle,
    BundleError,
    Reader,
    blob_name,
    log_name,
)
from fedbus_core.audit.chain import Outcome, Walk
from fedbus_core.audit.difference import Difference, difference
from fedbus_core.audit.sets import SET_BYTES_MAX, inline_bytes


class Verdict(StrEnum):
    """What came of making a round's model again."""

    REPRODUCED = "reproduced"
    DIFFERS = "differs"
    IMPOSSIBLE = "impossible"


@dataclass(frozen=True, slots=True)
class Counterfactual:
    """The model as it would be without some clients: `digest` is unset when no update would be left.

    Only the round itself is asked: the others' updates are those they made from the logged model.
    """

    digest: str | None
    left_out: tuple[str, ...]
    difference: Difference | None = None


@dataclass(frozen=True, slots=True)
class RoundReplay:
    """One round made again. `expected` is the digest in the log, `found` the one made here."""

    round: int
    attempt: int
    expected: str
    found: str | None
    verdict: Verdict
    updates: int = 0
    weight: int = 0
    detail: str = ""
    counterfactual: Counterfactual | None = None


@dataclass(slots=True)
class ReplayReport:
    """The result of `replay`. `problem` says why it had to end before the log did; "" if it did not."""

    project: str = ""
    session: str = ""
    rounds: list[RoundReplay] = field(default_factory=list)
    problem: str = ""
    readable: bool = True

    @property
    def ok(self) -> bool:
        """Whether every round of the log was reproduced."""
        return not self.problem and all(one.verdict is Verdict.REPRODUCED for one in self.rounds)


class _Impossible(Exception):
    """A round cannot be made again; the text says why."""


def replay(
    reader: Reader,
    *,
    batch_size: int,
    order_seed: int,
    without: frozenset[str] = frozenset(),
    on_round: Callable[[RoundReplay], None] = lambda _: None,
) -> ReplayReport:
    """Make every completed round's model again and compare its SHA-256 with the log.

    Each model made here is the base of the next round; models in the bundle are used only for the
    first round and after a round that is impossible. With `without`, each round is also made
    without these clients. Signatures are not looked at: `verify` does that.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is a whole number from 1, not {batch_size}")
    report = ReplayReport()
    try:
        bundle = Bundle.open(reader)
    except BundleError as error:
        report.problem, report.readable = str(error), False
        return report
    report.project, report.session = bundle.index.project, bundle.index.session
    again = _Replay(bundle, batch_size, order_seed, without)
    try:
        for found in again.rounds():
            report.rounds.append(found)
            on_round(found)
    except (BundleError, _Impossible) as error:
        report.problem = str(error)
    return report


@dataclass(slots=True)
class _Replay:
    bundle: Bundle
    batch_size: int
    order_seed: int
    without: frozenset[str]
    settings: SessionSettings | None = None
    model: Buffer = b""

    def rounds(self) -> Iterator[RoundReplay]:
        """Go through the log and make the model of every completed round."""
        walk = Walk(self.bundle.index.project, self.bundle.index.session)
        for number in range(1, self.bundle.index.entries + 1):
            data = self.bundle.content(log_name(number), size_max=MESSAGE_BYTES_MAX)
            if data is None:
                raise _Impossible(f"{log_name(number)} is not in the bundle")
            step = walk.take(number, data)
            if step.problems:
                raise _Impossible(f"{log_name(number)}: {step.problems[0][1]}; verify the bundle")
            if step.started is not None:
                self.settings = step.started.settings
                self.model = self._blob(self._key(step.started.model), step.started.model)
            for outcome in step.outcomes:
                if isinstance(outcome.event, RoundCompleted):
                    yield self._round(outcome, outcome.event)

    def _round(self, outcome: Outcome, event: RoundCompleted) -> RoundReplay:
        number, attempt = outcome.attempt
        expected = event.model.digest
        try:
            _check_rule(event.rule, self._aggregator)
            base = self.model or self._blob(self._key(outcome.opened.model), outcome.opened.model)
            total, updates = self._sum(outcome, event, base)
            self.model, ref = total.model(self._aggregator, base)
            counterfactual = self._without(outcome, total, updates, base)
        except (_Impossible, Unreadable, TensorFileError, ValueError) as error:
            self.model = b""
            verdict, detail = Verdict.IMPOSSIBLE, str(error)
            return RoundReplay(number, attempt, expected, None, verdict, detail=detail)
        verdict = Verdict.REPRODUCED if ref == event.model else Verdict.DIFFERS
        return RoundReplay(
            number,
            attempt,
            expected,
            ref.digest,
            verdict,
            updates=len(updates),
            weight=sum(update.weight for update in updates),
            counterfactual=counterfactual,
        )

    def _sum(
        self, outcome: Outcome, event: RoundCompleted, base: Buffer
    ) -> tuple[RoundSum, list[IncludedUpdate]]:
        """Sum the round's updates in another order, batch by batch."""
        assert self.settings is not None, "a log begins with its settings"
        layout = parse_layout(base, len(base))
        exponents, numbers = exponents_of(layout, base), self.settings.numbers
        total, batch = (RoundSum(layout, exponents, numbers) for _ in range(2))
        updates = self._shuffled(outcome.attempt[0], self._included(event))
        for update in updates:
            content = Content(self._update(outcome, update), update.weight)
            (finding,) = batch.add([content])
            if finding is not None:
                raise _Impossible(f"client {update.client}: {finding.detail}")
            if batch.total.count == self.batch_size:
                total.total.merge(batch.total)
                batch = RoundSum(layout, exponents, numbers)
        if batch.total.count:
            total.total.merge(batch.total)
        return total, updates

    def _without(
        self, outcome: Outcome, total: RoundSum, updates: list[IncludedUpdate], base: Buffer
    ) -> Counterfactual | None:
        """Take the clients' updates off the sum again, exactly, and finish what is left."""
        if not self.without:
            return None
        taken = [update for update in updates if update.client in self.without]
        names = tuple(sorted(update.client for update in taken))
        if len(taken) == len(updates):
            return Counterfactual(None, names)
        for update in taken:
            total.total.subtract(self._update(outcome, update), update.weight)
        other, ref = total.model(self._aggregator, base)
        return Counterfactual(ref.digest, names, difference(self.model, other))

    @property
    def _aggregator(self) -> str:
        assert self.settings is not None, "a log begins with its settings"
        return self.settings.aggregator

    def _shuffled(self, number: int, updates: tuple[IncludedUpdate, ...]) -> list[IncludedUpdate]:
        def rank(update: IncludedUpdate) -> bytes:
            name = f"replay/{self.order_seed}/{number}/{update.client}"
            return hashlib.sha256(name.encode()).digest()

        return sorted(updates, key=rank)

    def _included(self, event: RoundCompleted) -> tuple[IncludedUpdate, ...]:
        key = keys.included_set(self.bundle.index.project, event.included.digest)
        if event.included.size > SET_BYTES_MAX:
            raise _Impossible(f"{key} is over {SET_BYTES_MAX} bytes")
        return read(IncludedSet, self._blob(key, event.included)).updates

    def _update(self, outcome: Outcome, update: IncludedUpdate) -> bytes:
        """Fetch one update's bytes: from its message, or from a blob."""
        key = keys.update(self.bundle.index.project, update.client, update.update.digest)
        data = None if self.bundle.blob(key) else self._inline(outcome, update)
        if data is None:
            return self._blob(key, update.update)
        if digest(data) != update.update.digest:
            raise _Impossible(f"client {update.client}: the update in its message is another one")
        return data

    def _inline(self, outcome: Outcome, update: IncludedUpdate) -> bytes | None:
        stored = self.bundle.updates(*outcome.attempt)
        at = bisect_left(stored, update.sequence, key=lambda one: one.sequence)
        for one in stored[at : at + 1]:
            if (one.client, one.sequence) == (update.client, update.sequence):
                data = self.bundle.content(one.member.name, size_max=MESSAGE_BYTES_MAX)
                return inline_bytes(read(StoredUpdate, data or b""))
        return None

    def _blob(self, key: str, ref: BlobRef) -> bytes:
        """Read a blob whole; it must be what its reference says."""
        data = self.bundle.content(blob_name(key))
        if data is None:
            absent = self.bundle.absent.get(key)
            why = f" ({absent.why})" if absent else ""
            raise _Impossible(f"{key} is not in the bundle{why}")
        if (digest(data), len(data)) != (ref.digest, ref.size):
            raise _Impossible(f"{key} is not the blob that its name says")
        return data

    def _key(self, model: ModelRef) -> str:
        return keys.model(self.bundle.index.project, model.digest)


def _check_rule(name: str, aggregator: str) -> None:
    """A rule's bits belong to its version."""
    ours = rule_version(aggregator)
    if name != ours:
        raise _Impossible(f"the round was made by {name!r}, this version has {ours}")
