"""Writes refusals to NOTES, beside the requests and within a limit for each client."""

import asyncio

from fedbus_runtime.budgets import Budgets
from fedbus_runtime.errors import Away
from fedbus_runtime.ports import Clock, Streams
from fedbus_schemas import subjects
from fedbus_schemas.codec import Unreadable, read
from fedbus_schemas.ids import DeviceKey, ProjectId, RoundNumber, SessionId
from fedbus_schemas.refusals import Refusal, RefusalCode, RefusalNote
from fedbus_schemas.updates import Submission
from fedbus_schemas.wire import Message

QUEUE_MAX = 1_000
BURST = 20.0
"""Notes a client may cause at once; afterwards `PER_SECOND`."""
PER_SECOND = 0.5


class _Place(Message):
    """Where a request belongs, as far as it says so."""

    session: SessionId | None = None
    round: RoundNumber | None = None


class Notes:
    """A bounded queue and one writer. What does not fit is dropped: notes inform, nothing hangs on them."""

    def __init__(self, streams: Streams, clock: Clock) -> None:
        self._streams = streams
        self._queue: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue(QUEUE_MAX)
        self._budgets = Budgets(clock, burst=BURST, per_second=PER_SECOND)

    def refused(
        self, project: ProjectId, device: DeviceKey, verb: str, data: bytes, refusal: Refusal
    ) -> None:
        """Note that a request of a client's was refused, unless it has used up its share."""
        if refusal.code is RefusalCode.RETRY_LATER or self._queue.full():
            return
        if self._budgets.take(device):
            return
        subject = subjects.refusal_note(project, device, f"{verb}.{refusal.code}")
        place = _place(verb, data)
        note = RefusalNote(**dict(refusal), session=place.session, round=place.round)
        self._queue.put_nowait((subject, note.to_bytes()))

    async def run(self) -> None:
        """Write notes until cancelled."""
        while True:
            subject, data = await self._queue.get()
            try:
                await self._streams.append(subject, data)
            except Away:
                continue


def _place(verb: str, data: bytes) -> _Place:
    try:
        return read(_Place, read(Submission, data).manifest if verb == "submit" else data)
    except Unreadable:
        return _Place()
