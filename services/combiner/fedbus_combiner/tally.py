"""Counts stored updates into Redis, hands out full batches, and says when a round's target is reached.

Driven by a durable consumer on UPDATES and acked last: wherever a combiner dies, its updates are counted
by another. Counting is a union, so twice is once. Updates that come while others are being counted
are counted together in the next call.
"""

from weakref import WeakValueDictionary

from fedbus_core.rounds.state import RoundPhase
from fedbus_runtime import tracing
from fedbus_runtime.errors import BusAway, NoAnswer, RuntimeFault
from fedbus_runtime.joined import Joined
from fedbus_runtime.ports import (
    LiveRound,
    RoundKey,
    RoundRecords,
    StoredMessage,
    Streams,
    Tally,
    Wire,
)
from fedbus_schemas import subjects
from fedbus_schemas.ids import ClientId, ProjectId, SessionId
from fedbus_schemas.inputs import TargetReached
from fedbus_schemas.streams import UPDATES
from fedbus_schemas.work import FoldItem

from fedbus_combiner.live_rounds import LiveRounds

NOTICE_TIMEOUT_S = 2.0


class Tallies:
    """The handler of the `tallies` consumer."""

    def __init__(
        self, streams: Streams, wire: Wire, records: RoundRecords, rounds: LiveRounds
    ) -> None:
        self._streams = streams
        self._wire = wire
        self._records = records
        self._rounds = rounds
        self._epochs: dict[tuple[ProjectId, SessionId], str] = {}
        self._waiting: dict[RoundKey, dict[ClientId, int]] = {}
        self._turns: WeakValueDictionary[RoundKey, Joined[None]] = WeakValueDictionary()

    async def on_update(self, message: StoredMessage) -> None:
        """Count one stored update, with all that wait. Raises `Away`: then it is counted later."""
        _, project, _, session, number, client, attempt = message.subject.split(".")
        key = RoundKey(project, session, int(number), int(attempt))
        self._waiting.setdefault(key, {})[client] = message.sequence
        turn = self._turns.setdefault(key, Joined())
        await turn.call(lambda: self._settle(key))

    async def _settle(self, key: RoundKey) -> None:
        """Count what waits, and do what follows from it; what was not counted waits again."""
        updates = self._waiting.pop(key, {})
        tracing.about("count", key)
        tracing.tell(updates=len(updates))
        try:
            await self._take(key, updates)
        except RuntimeFault:
            raise  # all of them are told, and come again
        except BaseException:
            self._waiting[key] = updates | self._waiting.get(key, {})
            raise

    async def _take(self, key: RoundKey, updates: dict[ClientId, int]) -> None:
        project, session = key.project, key.session
        live, tally = await self._count(key, updates)
        if tally is None:
            # Redis was flushed, or holds a copy from before: from the streams it comes right. What came
            # to light then is the open attempt's, whose own updates may all have been counted before.
            live, tally = await self._rebuild(project, session)
            if live is not None:
                key = RoundKey(project, session, live.round, live.attempt)
        if live is None or not self._is_open(live, key):
            self._epochs.pop((project, session), None)
            return
        await self._hand_out(key, tally)
        if tally.stored >= live.target:
            await self._notify(key)

    async def _count(
        self, key: RoundKey, updates: dict[ClientId, int]
    ) -> tuple[LiveRound | None, Tally | None]:
        """Count in Redis. No tally: it may have lost what was counted.

        Whoever finds nothing counted before makes sure: a flush may have come at any moment, also
        before somebody wrote the session's state again.
        """
        place = (key.project, key.session)
        live = await self._records.get_round(*place)
        epoch = self._records.epoch()
        if live is None or self._is_older(live, key) or self._epochs.get(place) != epoch:
            return None, None
        if (live.round, live.attempt) > (key.round, key.attempt):
            return live, Tally(0)  # it is over, and what was counted of it is forgotten
        tally = await self._records.count(key, updates, live.batch_size)
        if tally.stored < live.target:
            is_first = tally.stored <= len(updates)
            if self._records.epoch() != epoch or (is_first and await self._more(key, tally)):
                return None, None
        return live, tally

    async def _more(self, key: RoundKey, tally: Tally) -> bool:
        """Whether more is stored than was counted: then something may have been forgotten."""
        subject = subjects.updates_of(key.project, key.session, key.round, key.attempt)
        return len(await self._streams.subjects(UPDATES, subject)) > tally.stored

    async def _rebuild(
        self, project: ProjectId, session: SessionId
    ) -> tuple[LiveRound | None, Tally]:
        """Count from the streams. Who fails in the middle of it does it again."""
        self._epochs.pop((project, session), None)
        epoch = self._records.epoch()
        live, tally = await self._rounds.rebuild(project, session)
        self._epochs[project, session] = epoch
        return live, tally

    async def again(self, subject: str, sequence: int) -> None:
        """Count a stored update whose delivery is over. Raises `Away`."""
        for message in await self._streams.read(UPDATES, subject, after=sequence - 1, limit=1):
            await self.on_update(message)

    def _is_older(self, live: LiveRound, key: RoundKey) -> bool:
        return (live.round, live.attempt) < (key.round, key.attempt)

    def _is_open(self, live: LiveRound, key: RoundKey) -> bool:
        open_now = (live.round, live.attempt) == (key.round, key.attempt)
        return open_now and live.phase == RoundPhase.COLLECTING and live.target > 0

    async def _hand_out(self, key: RoundKey, tally: Tally) -> None:
        for batch in tally.batches:
            item = FoldItem(
                project=key.project,
                session=key.session,
                round=key.round,
                attempt=key.attempt,
                clients=batch,
            )
            place = f"{key.project}.{key.session}.{key.round}.{key.attempt}.fold.{batch[0]}"
            subject = subjects.work(key.project, key.session, "fold")
            await self._streams.append(subject, item.to_bytes(), message_id=place)

    async def _notify(self, key: RoundKey) -> None:
        notice = TargetReached(round=key.round, attempt=key.attempt)
        subject = subjects.notice(key.project, key.session)
        try:
            await self._wire.request(subject, notice.to_bytes(), NOTICE_TIMEOUT_S)
        except NoAnswer as error:
            raise BusAway(f"no controller answers: {error}") from error
