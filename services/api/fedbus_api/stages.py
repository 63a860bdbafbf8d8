"""Model stages: which model is the candidate, which one is in production, and which ones were before.

A stage is a record of its own in REGISTRY, changed by compare-and-set, so of two operators who promote
at once one sees the other's model first.
"""

from collections.abc import Callable

from fedbus_runtime.errors import Conflict
from fedbus_runtime.ports import Clock, StoredMessage, Streams
from fedbus_schemas import subjects
from fedbus_schemas.codec import digest, read
from fedbus_schemas.ids import ProjectId, Sha256
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.registry import STAGE_CHANGES_MAX, StageChange, StageName, StageRecord
from fedbus_schemas.streams import REGISTRY
from fedbus_schemas.trail_views import StageView

from fedbus_api.problems import Problem

TRIES_MAX = 20
"""How often a change is tried again because another was first."""
STAGES_MAX = 32


class Stages:
    """Reads and changes the stages of a project."""

    def __init__(self, streams: Streams, clock: Clock) -> None:
        self._streams = streams
        self._clock = clock

    async def stages(self, project: ProjectId) -> list[StageView]:
        """Give all stages that ever had a model."""
        stored = await self._streams.read(REGISTRY, subjects.stage_record(project))
        return [_view(one) for one in stored]

    async def stage(self, project: ProjectId, stage: StageName) -> StageView:
        """Give a stage. Raises `Problem` when no model was ever in it."""
        stored = await self._streams.last(REGISTRY, subjects.stage_record(project, stage))
        if stored is None:
            detail = f"stage {stage} in project {project}: no model was put there yet"
            raise Problem(RefusalCode.NOT_FOUND, detail)
        return _view(stored)

    async def promote(
        self, project: ProjectId, stage: StageName, model: Sha256, *, reason: str, by: str
    ) -> StageView:
        """Put a model into a stage. The one that is there already stays, and nothing is noted."""

        def change(record: StageRecord | None) -> StageChange | None:
            if record is not None and record.changes[-1].model == model:
                return None
            return StageChange(model=model, since=self._clock.now(), reason=reason, by=by)

        return await self._change(project, stage, change)

    async def roll_back(
        self, project: ProjectId, stage: StageName, *, reason: str, by: str, key: str | None
    ) -> StageView:
        """Put the model back that was there before the one now. With `key`, only the first time.

        Raises `Problem` when there was none before.
        """
        cause = digest(key.encode()) if key is not None else ""

        def change(record: StageRecord | None) -> StageChange | None:
            changes = record.changes if record is not None else ()
            if cause and any(one.cause == cause for one in changes):
                return None
            place = _before(changes)
            if place is None:
                detail = f"stage {stage}: no other model was in it before"
                raise Problem(RefusalCode.NOT_POSSIBLE_NOW, detail)
            return StageChange(
                model=changes[place].model,
                since=self._clock.now(),
                reason=reason,
                by=by,
                rolled_back_to=place + 1 + (record.dropped if record is not None else 0),
                cause=cause,
            )

        return await self._change(project, stage, change)

    async def _change(
        self,
        project: ProjectId,
        stage: StageName,
        change: Callable[[StageRecord | None], StageChange | None],
    ) -> StageView:
        subject = subjects.stage_record(project, stage)
        for _ in range(TRIES_MAX):
            stored = await self._streams.last(REGISTRY, subject)
            record = read(StageRecord, stored.data) if stored is not None else None
            made = change(record)
            if made is None:
                assert stored is not None, "nothing changes only what is there"
                return _view(stored)
            if stored is None and len(await self.stages(project)) >= STAGES_MAX:
                raise Problem(RefusalCode.TOO_LARGE, f"a project has {STAGES_MAX} stages at most")
            following = _with(record, stage, made)
            expected = stored.sequence if stored is not None else 0
            try:
                await self._streams.append(subject, following.to_bytes(), expected=expected)
            except Conflict:
                continue
            return _shown(following)
        raise Problem(RefusalCode.RETRY_LATER, f"stage {stage}: others changed it each time")


def _with(record: StageRecord | None, stage: StageName, change: StageChange) -> StageRecord:
    """Add a change, and let the oldest go where there are many."""
    before = record.changes if record is not None else ()
    dropped = record.dropped if record is not None else 0
    kept = (*before, change)[-STAGE_CHANGES_MAX:]
    return StageRecord(stage=stage, changes=kept, dropped=dropped + len(before) + 1 - len(kept))


def _before(changes: tuple[StageChange, ...]) -> int | None:
    """Find the change that a roll-back goes to: two in a row go back two models, not there and back."""
    if not changes:
        return None
    place = len(changes) - 1
    while place >= 0 and changes[place].rolled_back_to:
        model = changes[place].model
        earlier = [at for at in range(place) if changes[at].model == model]
        if not earlier:
            return None
        place = earlier[-1]
    current = changes[-1].model
    return next((at for at in range(place - 1, -1, -1) if changes[at].model != current), None)


def _view(stored: StoredMessage) -> StageView:
    return _shown(read(StageRecord, stored.data))


def _shown(record: StageRecord) -> StageView:
    last = record.changes[-1]
    return StageView(
        stage=record.stage,
        model=last.model,
        since=last.since,
        reason=last.reason,
        by=last.by,
        history=tuple(reversed(record.changes)),
    )
