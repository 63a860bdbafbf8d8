"""Where a session stands, from Redis; rebuilt from the streams when Redis has lost it."""

from weakref import WeakValueDictionary

from fedbus_core.rounds.effects import live_round
from fedbus_core.rounds.state import Session
from fedbus_runtime.folded_log import FoldedLog
from fedbus_runtime.joined import Joined
from fedbus_runtime.ports import LiveRound, RoundKey, RoundRecords, Streams, Tally
from fedbus_schemas import subjects
from fedbus_schemas.ids import ClientId, ProjectId, SessionId
from fedbus_schemas.streams import UPDATES


class LiveRounds:
    """The live round state. Redis is asked first; the log is what it is rebuilt from."""

    def __init__(self, streams: Streams, records: RoundRecords, log: FoldedLog[Session]) -> None:
        self._streams = streams
        self._records = records
        self._log = log
        self._gets: WeakValueDictionary[tuple[ProjectId, SessionId], Joined[LiveRound | None]] = (
            WeakValueDictionary()
        )

    async def get(self, project: ProjectId, session: SessionId) -> LiveRound | None:
        """Give where a session stands; None = there is no such session. Raises `RecordsAway`.

        Who asks while Redis is being asked shares the next answer.
        """
        turn = self._gets.setdefault((project, session), Joined())
        return await turn.call(lambda: self._get(project, session))

    async def _get(self, project: ProjectId, session: SessionId) -> LiveRound | None:
        live = await self._records.get_round(project, session)
        if live is None:
            live, _ = await self.rebuild(project, session)
        return live

    async def rebuild(
        self, project: ProjectId, session: SessionId
    ) -> tuple[LiveRound | None, Tally]:
        """Write a session's state and the counts of its open round anew, from the log and UPDATES.

        Gives the state and what counting came to. Everything written is a union or guarded by the
        entry's number, so any number of combiners may do this at once.
        """
        state = await self._log.newest(project, session)
        if state is None:
            return None, Tally(0)
        live, tally = live_round(state), Tally(0)
        if state.round is not None:
            key = RoundKey(project, session, live.round, live.attempt)
            tally = await self._count_all(key, live.batch_size)
        await self._records.put_round(live)  # last: who finds it takes the counts for whole
        return live, tally

    async def _count_all(self, key: RoundKey, batch: int) -> Tally:
        """Count what is stored; once more when a look after it finds that more is.

        What came between the look and the count may have been counted, acknowledged and flushed.
        """
        tally = await self._records.count(key, await self._stored(key), batch)
        subject = subjects.updates_of(key.project, key.session, key.round, key.attempt)
        if len(await self._streams.subjects(UPDATES, subject)) <= tally.stored:
            return tally
        again = await self._records.count(key, await self._stored(key), batch)
        return Tally(again.stored, tally.batches + again.batches)

    async def _stored(self, key: RoundKey) -> dict[ClientId, int]:
        subject = subjects.updates_of(key.project, key.session, key.round, key.attempt)
        stored = await self._streams.read(UPDATES, subject)
        return {subjects.token(one.subject, 5): one.sequence for one in stored}
