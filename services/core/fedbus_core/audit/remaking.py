"""Makes one round's model again out of a bundle, as a combiner made it, but in other batches."""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from fedbus_schemas import keys
from fedbus_schemas.codec import digest, read
from fedbus_schemas.models import BlobRef, ModelRef
from fedbus_schemas.sessions import SessionSettings
from fedbus_schemas.sets import IncludedUpdate
from fedbus_schemas.updates import StoredUpdate

from fedbus_core.aggregation.grid import exponents_of
from fedbus_core.aggregation.round_functions import RoundFunctions
from fedbus_core.aggregation.round_rows import RoundRows
from fedbus_core.aggregation.round_sum import Content, Made, RoundSum
from fedbus_core.aggregation.rules.rule import FunctionRule, Member, RowsRule, Rule
from fedbus_core.aggregation.server_functions import FunctionFailed, Run, call_seed
from fedbus_core.aggregation.tensorfile import Buffer, parse_layout
from fedbus_core.audit.bundle import MESSAGE_BYTES_MAX, Bundle, blob_name
from fedbus_core.audit.bundle import Member as BundleMember
from fedbus_core.audit.chain import Outcome
from fedbus_core.audit.sets import inline_bytes


class Impossible(Exception):
    """A round cannot be made again; the text says why."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """A small update, which rode in its message."""

    data: bytes

    def read_at(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]


@dataclass(frozen=True, slots=True)
class _InBundle:
    """An update in the bundle's file."""

    bundle: Bundle
    member: BundleMember

    def read_at(self, offset: int, length: int) -> bytes:
        return self.bundle.read_at(self.member, offset, length)


@dataclass(frozen=True, slots=True)
class Remaking:
    """Reads the updates and blobs of a bundle, and folds them `batch_size` at a time."""

    bundle: Bundle
    batch_size: int
    run: Run | None = None
    """Runs server functions; None: their rounds cannot be made again."""

    def make(
        self,
        rule: Rule,
        settings: SessionSettings,
        outcome: Outcome,
        updates: list[IncludedUpdate],
        base: Buffer,
        state: bytearray | None,
    ) -> Made:
        """Make the model by this rule from these updates, in their order; `state` is changed.

        Raises `Impossible` and what reading raises.
        """
        layout = parse_layout(base, len(base))
        exponents = exponents_of(layout, base)
        if isinstance(rule, RowsRule):
            rows = RoundRows(layout, exponents, settings.numbers, rule)
            self._take_all(rows, outcome, updates)
            return rows.model()
        if isinstance(rule, FunctionRule):
            calls = RoundFunctions(layout, exponents, settings.numbers, rule)
            self._take_all(calls, outcome, updates)
            return self._call(calls, settings, outcome, updates, base, state)
        sums = partial(RoundSum, layout, exponents, settings.numbers, rule)
        return self._sum(sums, outcome, updates, base, state)

    def _call(
        self,
        calls: RoundFunctions,
        settings: SessionSettings,
        outcome: Outcome,
        updates: list[IncludedUpdate],
        base: Buffer,
        state: bytearray | None,
    ) -> Made:
        functions = settings.functions
        assert functions is not None, "the settings were checked"
        if self.run is None:
            raise Impossible("the operator's own code made it; ask for server functions to be run")
        key = keys.server_functions(self.bundle.index.project, functions.code.digest)
        members = [
            Member(one.client, one.weight, one.signed.content().metrics)
            for one in sorted(updates, key=lambda one: one.client)
        ]
        seed = call_seed(settings.seed, outcome.opened.round)
        source = self.blob(key, functions.code)
        try:
            return calls.model(self.run, functions, source, base, state, members, seed)
        except FunctionFailed as error:
            raise Impossible(f"the server functions failed this time: {error}") from error

    def _take_all(
        self, rows: RoundRows | RoundFunctions, outcome: Outcome, updates: list[IncludedUpdate]
    ) -> None:
        for update in updates:
            data = self._update(outcome, update)
            key = keys.update(self.bundle.index.project, update.client, update.update.digest)
            member = self.bundle.blob(key)
            source = _Kept(data) if member is None else _InBundle(self.bundle, member)
            content = Content(data, update.weight)
            finding = rows.take(update.client, content, source)
            if finding is not None:
                raise Impossible(f"client {update.client}: {finding.detail}")

    def _sum(
        self,
        new_sum: Callable[[], RoundSum],
        outcome: Outcome,
        updates: list[IncludedUpdate],
        base: Buffer,
        state: bytearray | None,
    ) -> Made:
        total, batch = new_sum(), new_sum()
        members: list[Member] = []
        for update in updates:
            metrics = update.signed.content().metrics
            members.append(Member(update.client, update.weight, metrics))
            content = Content(self._update(outcome, update), update.weight, metrics)
            (finding,) = batch.add([content])
            if finding is not None:
                raise Impossible(f"client {update.client}: {finding.detail}")
            if batch.total.count == self.batch_size:
                total.total.merge(batch.total)
                batch = new_sum()
        if batch.total.count:
            total.total.merge(batch.total)
        return total.model(base, state, sorted(members, key=lambda one: one.client))

    def model(self, model: ModelRef) -> bytes:
        """Read a model."""
        return self.blob(keys.model(self.bundle.index.project, model.digest), model)

    def blob(self, key: str, ref: BlobRef) -> bytes:
        """Read a blob whole; it must be what its reference says. Raises `Impossible`."""
        data = self.bundle.content(blob_name(key))
        if data is None:
            absent = self.bundle.absent.get(key)
            why = f" ({absent.why})" if absent else ""
            raise Impossible(f"{key} is not in the bundle{why}")
        if (digest(data), len(data)) != (ref.digest, ref.size):
            raise Impossible(f"{key} is not the blob that its name says")
        return data

    def _update(self, outcome: Outcome, update: IncludedUpdate) -> bytes:
        """Fetch one update's bytes: from its message, or from a blob."""
        key = keys.update(self.bundle.index.project, update.client, update.update.digest)
        data = None if self.bundle.blob(key) else self._inline(outcome, update)
        if data is None:
            return self.blob(key, update.update)
        if digest(data) != update.update.digest:
            raise Impossible(f"client {update.client}: the update in its message is another one")
        return data

    def _inline(self, outcome: Outcome, update: IncludedUpdate) -> bytes | None:
        stored = self.bundle.updates(*outcome.attempt)
        at = bisect_left(stored, update.sequence, key=lambda one: one.sequence)
        for one in stored[at : at + 1]:
            if (one.client, one.sequence) == (update.client, update.sequence):
                data = self.bundle.content(one.member.name, size_max=MESSAGE_BYTES_MAX)
                return inline_bytes(read(StoredUpdate, data or b""))
        return None
