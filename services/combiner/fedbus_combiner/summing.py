"""Folds updates into a round's sum: the next group is fetched while a thread folds the present one."""

import asyncio
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedbus_core.aggregation.round_functions import RoundFunctions
from fedbus_core.aggregation.round_rows import RoundRows
from fedbus_core.aggregation.round_sum import Content, RoundSum
from fedbus_core.aggregation.rules import rule_of
from fedbus_core.aggregation.rules.rule import FunctionRule, RowsRule
from fedbus_core.aggregation.tensorfile import (
    HEADER_BYTES_MAX,
    LENGTH_BYTES,
    Layout,
    header_length,
    parse_layout,
)
from fedbus_runtime.metrics import FOLD_BYTES, FOLD_SECONDS
from fedbus_runtime.ports import Blobs, Clock, RoundKey
from fedbus_runtime.together import together
from fedbus_schemas import keys
from fedbus_schemas.events import RefusedUpdate
from fedbus_schemas.ids import ClientId, ProjectId, Sha256
from fedbus_schemas.models import ModelRef
from fedbus_schemas.sessions import SessionSettings

from fedbus_combiner.spool import Spooled
from fedbus_combiner.updates import Candidate, Updates

GROUP_BYTES_MAX = 16 * 1024 * 1024
"""Updates are fetched and folded in groups of at most this size; a larger update is a group of its own."""
GROUP_UPDATES_MAX = 64
LAYOUTS_MAX = 32
HEAD_BYTES = 64 * 1024


@dataclass(slots=True)
class Folded:
    """What folding came to. `read_s` and `fold_s` overlap: one fetches while the other computes."""

    counted: list[Candidate] = field(default_factory=list)
    refused: list[RefusedUpdate] = field(default_factory=list)
    read_s: float = 0.0
    fold_s: float = 0.0


class Summing:
    """Makes sums and puts updates into them."""

    def __init__(self, updates: Updates, blobs: Blobs, clock: Clock) -> None:
        self._updates = updates
        self._blobs = blobs
        self._clock = clock
        self._layouts: OrderedDict[Sha256, Layout] = OrderedDict()

    async def begin(
        self, project: ProjectId, base: ModelRef, settings: SessionSettings
    ) -> RoundSum | RoundRows | RoundFunctions:
        """Make an empty sum on the base model's grid, or what another kind of rule has in its place."""
        layout = await self._layout(project, base)
        rule = rule_of(settings)
        if isinstance(rule, RowsRule):
            return RoundRows(layout, base.exponents, settings.numbers, rule)
        if isinstance(rule, FunctionRule):
            return RoundFunctions(layout, base.exponents, settings.numbers, rule)
        return await asyncio.to_thread(RoundSum, layout, base.exponents, settings.numbers, rule)

    async def gather(
        self,
        rows: RoundRows | RoundFunctions,
        key: RoundKey,
        candidates: Sequence[Candidate],
        folder: Path,
    ) -> Folded:
        """Check every candidate and keep it in the folder, one in memory at a time."""
        folded = Folded()
        for candidate in candidates:
            started = self._clock.monotonic()
            content = await self._updates.content(key, candidate)
            folded.read_s += self._clock.monotonic() - started
            if isinstance(content, RefusedUpdate):
                folded.refused.append(content)
            else:
                await asyncio.to_thread(_take, rows, candidate, content, folder, folded)
        _count(folded)
        return folded

    async def fold(self, total: RoundSum, key: RoundKey, candidates: Sequence[Candidate]) -> Folded:
        """Fold the candidates into the sum, two groups in memory at most."""
        folded = Folded()
        groups = list(_groups(candidates))
        if not groups:
            return folded
        async with together() as tasks:
            fetching = tasks.create_task(self._fetch(key, groups[0], folded))
            for group in [*groups[1:], None]:
                contents = await fetching
                if group is not None:
                    fetching = tasks.create_task(self._fetch(key, group, folded))
                started = self._clock.monotonic()
                await asyncio.to_thread(_add, total, contents, folded)
                folded.fold_s += self._clock.monotonic() - started
                contents.clear()
        _count(folded)
        return folded

    async def _fetch(
        self, key: RoundKey, group: Sequence[Candidate], folded: Folded
    ) -> list[tuple[Candidate, bytes | bytearray]]:
        started = self._clock.monotonic()
        async with together() as tasks:
            reads = [tasks.create_task(self._updates.content(key, one)) for one in group]
        contents: list[tuple[Candidate, bytes | bytearray]] = []
        for candidate, reading in zip(group, reads, strict=True):
            content = reading.result()
            if isinstance(content, RefusedUpdate):
                folded.refused.append(content)
            else:
                contents.append((candidate, content))
        folded.read_s += self._clock.monotonic() - started
        return contents

    async def _layout(self, project: ProjectId, base: ModelRef) -> Layout:
        known = self._layouts.get(base.layout)
        if known is None:
            key = keys.model(project, base.digest)
            head = await self._blobs.get_range(key, 0, min(HEAD_BYTES, base.size))
            needed = header_length(head[:LENGTH_BYTES])
            if needed > len(head):
                head = await self._blobs.get_range(key, 0, min(needed, HEADER_BYTES_MAX))
            known = parse_layout(head, base.size)
            self._layouts[base.layout] = known
            if len(self._layouts) > LAYOUTS_MAX:
                self._layouts.popitem(last=False)
        return known


def _count(folded: Folded) -> None:
    FOLD_BYTES.add(sum(one.manifest.update.size for one in folded.counted))
    FOLD_SECONDS.add(folded.fold_s)


def _take(
    rows: RoundRows | RoundFunctions,
    candidate: Candidate,
    data: bytes | bytearray,
    folder: Path,
    folded: Folded,
) -> None:
    """Check and keep one update; runs in a thread."""
    kept = Spooled(folder / candidate.client)
    content = Content(data, candidate.manifest.weight, candidate.manifest.metrics)
    finding = rows.take(candidate.client, content, kept)
    if finding is not None:
        folded.refused.append(
            RefusedUpdate(client=candidate.client, code=finding.code, detail=finding.detail)
        )
        return
    kept.write(data)
    folded.counted.append(candidate)


def _add(
    total: RoundSum, contents: list[tuple[Candidate, bytes | bytearray]], folded: Folded
) -> None:
    """Check and add one group; runs in a thread."""
    sized = [
        Content(data, candidate.manifest.weight, candidate.manifest.metrics)
        for candidate, data in contents
    ]
    findings = total.add(sized)
    for (candidate, _), finding in zip(contents, findings, strict=True):
        if finding is None:
            folded.counted.append(candidate)
        else:
            folded.refused.append(
                RefusedUpdate(client=candidate.client, code=finding.code, detail=finding.detail)
            )


def _groups(candidates: Sequence[Candidate]) -> Iterator[list[Candidate]]:
    group: list[Candidate] = []
    size = 0
    for candidate in candidates:
        bytes_more = candidate.manifest.update.size
        if group and (size + bytes_more > GROUP_BYTES_MAX or len(group) == GROUP_UPDATES_MAX):
            yield group
            group, size = [], 0
        group.append(candidate)
        size += bytes_more
    if group:
        yield group


def clients_of(candidates: Sequence[Candidate]) -> tuple[ClientId, ...]:
    """Give the clients of candidates, sorted."""
    return tuple(sorted(one.client for one in candidates))
