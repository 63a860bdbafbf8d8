"""A finish item: from what UPDATES holds up to the cut-off to the new model and the set it was made from.

Everything in the result but the timings and workers is a function of the candidates, the base model and
the settings: whichever combiner finishes, and however often, the bits are the same.
"""

import asyncio
import base64
import functools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import structlog
from fedbus_core.aggregation.metrics import weighted_metrics
from fedbus_core.aggregation.round_functions import RoundFunctions
from fedbus_core.aggregation.round_rows import RoundRows
from fedbus_core.aggregation.round_sum import Made, RoundSum
from fedbus_core.aggregation.rules.rule import Member
from fedbus_core.aggregation.server_functions import FunctionFailed, Run, call_seed
from fedbus_core.aggregation.tensorfile import Buffer, TensorFileError
from fedbus_core.rounds.state import RoundPhase, Session
from fedbus_runtime.errors import BlobCorrupt, BlobMissing, RecordsAway
from fedbus_runtime.folded_log import FoldedLog
from fedbus_runtime.ports import Blobs, Clock, RoundKey, RoundRecords, Streams
from fedbus_runtime.together import together
from fedbus_schemas import keys, subjects
from fedbus_schemas.codec import digest
from fedbus_schemas.events import FinishTimings, RefusedUpdate
from fedbus_schemas.ids import ClientId, InstanceName, ProjectId, Sha256
from fedbus_schemas.models import BlobRef, ModelRef
from fedbus_schemas.sets import IncludedSet, IncludedUpdate
from fedbus_schemas.updates import SignedManifest
from fedbus_schemas.work import FinishItem, FinishResult, PartialRecord

from fedbus_combiner.summing import Folded, Summing
from fedbus_combiner.updates import Candidate, Updates

_log = structlog.get_logger(__name__)

Place: TypeAlias = Callable[[ProjectId, Sha256], str]
"""Where a blob of some kind lies."""


@dataclass(slots=True)
class _Round:
    """A finish under way."""

    item: FinishItem
    key: RoundKey
    candidates: dict[ClientId, Candidate]
    total: RoundSum | RoundRows | RoundFunctions
    counted: set[ClientId] = field(default_factory=set)
    refused: dict[ClientId, RefusedUpdate] = field(default_factory=dict)
    workers: set[InstanceName] = field(default_factory=set)
    failure: str = ""

    @property
    def members(self) -> list[Member]:
        """Those counted, as a rule sees them, sorted."""
        counted = (self.candidates[client] for client in sorted(self.counted))
        return [Member(one.client, one.manifest.weight, one.manifest.metrics) for one in counted]


class Finishing:
    """Does finish items."""

    def __init__(
        self,
        instance: InstanceName,
        log: FoldedLog[Session],
        streams: Streams,
        updates: Updates,
        summing: Summing,
        blobs: Blobs,
        records: RoundRecords,
        clock: Clock,
        run: Run,
    ) -> None:
        """`run` runs an operator's server functions in a process of their own."""
        self._instance = instance
        self._log = log
        self._streams = streams
        self._updates = updates
        self._summing = summing
        self._blobs = blobs
        self._records = records
        self._clock = clock
        self._run = run

    async def finish(self, item: FinishItem) -> None:
        """Do the item, unless its result is in the log already. Raises `Away`."""
        if not _wanted(await self._log.newest(item.project, item.session), item):
            return
        started = self._clock.monotonic()
        opened = item.opened
        key = RoundKey(item.project, item.session, opened.round, opened.attempt)
        cohort = [member.client for member in opened.cohort]
        async with together() as tasks:
            reading = tasks.create_task(self._updates.up_to(key, cohort, item.closing.cutoff))
            beginning = tasks.create_task(
                self._summing.begin(item.project, opened.model, item.settings)
            )
            partials = tasks.create_task(self._partials(key))
        candidates = reading.result()
        round_ = _Round(item, key, candidates, beginning.result(), workers={self._instance})
        if isinstance(round_.total, RoundSum):
            result = await self._by_sum(round_, round_.total, partials.result(), started)
        else:
            result = await self._by_rows(round_, round_.total, started)
        subject = subjects.result(item.project, item.session)
        await self._streams.append(subject, result.to_bytes(), message_id=item.name)

    async def _by_rows(
        self, round_: _Round, rows: RoundRows | RoundFunctions, started: float
    ) -> FinishResult:
        """Keep the checked updates on disk while all of them are read again."""
        candidates = [one for _, one in sorted(round_.candidates.items())]
        folder = await asyncio.to_thread(tempfile.TemporaryDirectory)
        try:
            place = Path(folder.name)
            folded = await self._summing.gather(rows, round_.key, candidates, place)
            self._note(round_, folded)
            before = self._clock.monotonic()
            made = await self._combine(round_, rows) if rows.is_enough else None
            folded.fold_s += self._clock.monotonic() - before
        finally:
            await asyncio.to_thread(folder.cleanup)
        return await self._result(round_, folded, started, made)

    async def _combine(self, round_: _Round, rows: RoundRows | RoundFunctions) -> Made | None:
        """Make the model in a thread; None when the operator's code failed."""
        if isinstance(rows, RoundRows):
            return await asyncio.to_thread(rows.model)
        item = round_.item
        functions = item.settings.functions
        assert functions is not None, "the settings were checked"
        code, base = functions.code, item.opened.model
        async with together() as tasks:
            reading = tasks.create_task(
                self._blobs.get(keys.server_functions(item.project, code.digest), code.size)
            )
            basing = tasks.create_task(
                self._blobs.get(keys.model(item.project, base.digest), base.size)
            )
            remembering = tasks.create_task(self._state(item))
        call = functools.partial(
            rows.model,
            self._run,
            functions,
            bytes(reading.result()),
            basing.result(),
            remembering.result(),
            round_.members,
            call_seed(item.settings.seed, item.opened.round),
        )
        try:
            return await asyncio.to_thread(call)
        except FunctionFailed as error:
            _log.warning("functions.failed", item=item.name, why=str(error))
            round_.failure = str(error)
            return None

    async def _by_sum(
        self, round_: _Round, total: RoundSum, partials: list[PartialRecord], started: float
    ) -> FinishResult:
        """Take the partials that fit and fold the rest."""
        await self._take(round_, total, partials)
        rest = [
            candidate
            for client, candidate in sorted(round_.candidates.items())
            if client not in round_.counted and client not in round_.refused
        ]
        folded = await self._summing.fold(total, round_.key, rest)
        self._note(round_, folded)
        made = await self._make(round_, total) if round_.counted else None
        return await self._result(round_, folded, started, made)

    def _note(self, round_: _Round, folded: Folded) -> None:
        round_.counted.update(one.client for one in folded.counted)
        round_.refused.update((one.client, one) for one in folded.refused)

    async def _partials(self, key: RoundKey) -> list[PartialRecord]:
        """Give the partials that Redis knows of: none while it is away, which costs only time."""
        try:
            return await self._records.partials(key)
        except RecordsAway:
            return []

    async def _take(self, round_: _Round, total: RoundSum, partials: list[PartialRecord]) -> None:
        """Merge the partials that hold candidates only and overlap with none taken before."""
        partials.sort(key=lambda one: (-len(one.clients), one.blob.digest))
        for partial in partials:
            members = {*partial.clients, *(one.client for one in partial.refused)}
            taken = round_.counted | round_.refused.keys()
            if not members or not members <= round_.candidates.keys() or members & taken:
                continue
            if await self._merge(round_, total, partial):
                round_.counted.update(partial.clients)
                round_.refused.update((one.client, one) for one in partial.refused)
                round_.workers.add(partial.worker)

    async def _merge(self, round_: _Round, total: RoundSum, partial: PartialRecord) -> bool:
        key = round_.key
        place = keys.partial(key.project, key.session, key.round, key.attempt, partial.blob.digest)
        try:
            data = await self._blobs.get(place, partial.blob.size)
            await asyncio.to_thread(total.merge, data)
        except (BlobMissing, BlobCorrupt, TensorFileError):
            return False  # only a cache: its updates are folded anew
        return True

    async def _result(
        self, round_: _Round, folded: Folded, started: float, made: Made | None
    ) -> FinishResult:
        refused = tuple(round_.refused[client] for client in sorted(round_.refused))
        item = round_.item
        stored_s = 0.0
        model: ModelRef | None = None
        included: BlobRef | None = None
        state: BlobRef | None = None
        counted = [round_.candidates[client] for client in sorted(round_.counted)]
        if made is not None:
            model, remembered = made.ref, made.state
            chosen = _included_set(item, counted).to_bytes()
            before = self._clock.monotonic()
            async with together() as tasks:
                setting = tasks.create_task(self._keep(item, keys.included_set, chosen))
                tasks.create_task(self._keep(item, keys.model, made.model, made.ref.digest))
                if remembered is not None:
                    remembering = tasks.create_task(self._keep(item, keys.rule_state, remembered))
            included = setting.result()
            state = remembering.result() if remembered is not None else None
            stored_s = self._clock.monotonic() - before
        return FinishResult(
            round=item.opened.round,
            attempt=item.opened.attempt,
            step=item.closing.step,
            model=model,
            included=included,
            counted=tuple(one.client for one in counted),
            weight=sum(one.manifest.weight for one in counted),
            refused=refused,
            rule=round_.total.rule.id,
            metrics=weighted_metrics(
                (one.manifest.weight, one.manifest.metrics) for one in counted
            ),
            workers=tuple(sorted(round_.workers)),
            timings=FinishTimings(
                read_s=folded.read_s,
                fold_s=folded.fold_s,
                store_s=stored_s,
                total_s=self._clock.monotonic() - started,
            ),
            state=state,
            inline=_riding(made, item),
            failure=round_.failure,
        )

    async def _make(self, round_: _Round, total: RoundSum) -> Made:
        """Fetch what the rule needs beside the sum, and make the model in a thread."""
        item = round_.item
        async with together() as tasks:
            basing = tasks.create_task(self._base(round_, total))
            remembering = tasks.create_task(self._state(item))
        return await asyncio.to_thread(
            total.model, basing.result(), remembering.result(), round_.members
        )

    async def _keep(
        self, item: FinishItem, place: Place, data: Buffer, name: Sha256 | None = None
    ) -> BlobRef:
        """Store a blob under its SHA-256, which is taken in a thread unless it is known."""
        found = name if name is not None else await asyncio.to_thread(digest, data)
        await self._blobs.put(place(item.project, found), [data])
        return BlobRef(digest=found, size=len(data))

    async def _state(self, item: FinishItem) -> bytearray | None:
        if item.state is None:
            return None
        return await self._blobs.get(
            keys.rule_state(item.project, item.state.digest), item.state.size
        )

    async def _base(self, round_: _Round, total: RoundSum) -> bytearray | None:
        if not total.needs_base:
            return None
        base = round_.item.opened.model
        return await self._blobs.get(keys.model(round_.key.project, base.digest), base.size)


def _wanted(state: Session | None, item: FinishItem) -> bool:
    """Whether the log still waits for this item's result."""
    if state is None or state.round is None or state.round.phase is not RoundPhase.CLOSING:
        return False
    return (
        state.round.is_attempt(item.opened.round, item.opened.attempt)
        and state.round.step == item.closing.step
    )


def _riding(made: Made | None, item: FinishItem) -> str | None:
    """Give the model as it rides in mail, if it is small enough."""
    if made is None or made.ref.size > item.settings.inline_bytes_max:
        return None
    return base64.b64encode(made.model).decode()


def _included_set(item: FinishItem, counted: list[Candidate]) -> IncludedSet:
    return IncludedSet(
        project=item.project,
        session=item.session,
        round=item.opened.round,
        attempt=item.opened.attempt,
        base=item.opened.model.digest,
        updates=tuple(
            IncludedUpdate(
                client=one.client,
                sequence=one.sequence,
                update=one.manifest.update,
                weight=one.manifest.weight,
                signed=SignedManifest(
                    manifest=one.stored.manifest,
                    key=one.stored.key,
                    signature=one.stored.signature,
                ),
            )
            for one in counted
        ),
    )
