"""Writes refusals to NOTES, beside the requests and within a limit for each client."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass

from fedbus_runtime.errors import Away
from fedbus_runtime.ports import Clock, Streams
from fedbus_schemas import subjects
from fedbus_schemas.codec import Unreadable, read
from fedbus_schemas.ids import DeviceKey, ProjectId, RoundNumber, SessionId
from fedbus_schemas.refusals import Refusal, RefusalCode, RefusalNote
from fedbus_schemas.updates import Submission
from fedbus_schemas.wire import Message

QUEUE_MAX = 1_000
CLIENTS_MAX = 10_000
BURST = 20.0
"""Notes a client may cause at once; afterwards `PER_SECOND`."""
PER_SECOND = 0.5


@dataclass(slots=True)
class _Budget:
    left: float
    at: float


class _Place(Message):
    """Where a request belongs, as far as it says so."""

    session: SessionId | None = None
    round: RoundNumber | None = None


class Notes:
    """A bounded queue and one writer. What does not fit is dropped: notes inform, nothing hangs on them."""

    def __init__(self, streams: Streams, clock: Clock) -> None:
        self._streams = streams
        self._clock = clock
        self._queue: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue(QUEUE_MAX)
        self._budgets: OrderedDict[DeviceKey, _Budget] = OrderedDict()

    def refused(
        self, project: ProjectId, device: DeviceKey, verb: str, data: bytes, refusal: Refusal
    ) -> None:
        """Note that a request of a client's was refused, unless it has used up its share."""
        if refusal.code is RefusalCode.RETRY_LATER or not self._may(device) or self._queue.full():
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

    def _may(self, device: DeviceKey) -> bool:
        now = self._clock.monotonic()
        budget = self._budgets.setdefault(device, _Budget(BURST, now))
        self._budgets.move_to_end(device)
        if len(self._budgets) > CLIENTS_MAX:
            self._budgets.popitem(last=False)
        budget.left = min(BURST, budget.left + (now - budget.at) * PER_SECOND)
        budget.at = now
        if budget.left < 1.0:
            return False
        budget.left -= 1.0
        return True


def _place(verb: str, data: bytes) -> _Place:
    try:
        return read(_Place, read(Submission, data).manifest if verb == "submit" else data)
    except Unreadable:
        return _Place()
