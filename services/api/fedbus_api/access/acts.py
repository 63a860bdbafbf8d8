"""Who did what: every request that changes something is written down before it is carried out.

While it cannot be written down it is not carried out. The answer's status is added afterwards.
"""

import secrets
from dataclasses import dataclass

from fedbus_runtime.errors import Away
from fedbus_runtime.ports import Clock, StoredMessage, Streams
from fedbus_schemas import subjects
from fedbus_schemas.access_views import ActView
from fedbus_schemas.codec import Unreadable, read
from fedbus_schemas.identities import ActRecord
from fedbus_schemas.ids import ProjectId
from fedbus_schemas.streams import Stream
from structlog.stdlib import get_logger

from fedbus_api.tail import Tail

ID_BYTES = 8
ACTS_MAX = 10_000
"""Acts that a list looks at, the newest."""

_log = get_logger()


@dataclass(frozen=True, slots=True)
class Act:
    """An act under way."""

    subject: str
    record: ActRecord


class Acts:
    """Writes acts down, and lists them."""

    def __init__(self, streams: Streams, clock: Clock, kept: Stream) -> None:
        """`kept` is ACTS, with how long it is."""
        self._streams = streams
        self._clock = clock
        self._tail = Tail(
            streams, clock, kept, subject=subjects.act, parse=_view, kept_max=ACTS_MAX
        )

    async def begin(self, project: ProjectId, record: ActRecord) -> Act:
        """Write an act down before it is carried out. Raises `Away`: then it must not be."""
        act = Act(subjects.act(project, secrets.token_hex(ID_BYTES)), record)
        await self._streams.append(act.subject, record.to_bytes())
        return act

    async def end(self, act: Act, status: int, made: str) -> None:
        """Add how it was answered. When that fails the act stands there without an answer."""
        record = act.record.model_copy(update={"status": status, "made": made})
        try:
            await self._streams.append(act.subject, record.to_bytes())
        except Away as away:
            _log.warning("act.unanswered", act=act.subject, status=status, error=str(away))

    async def acts(self, project: ProjectId) -> list[ActView]:
        """Give a project's newest acts, the oldest first."""
        return await self._tail.rows(project)


def _view(message: StoredMessage) -> ActView | None:
    try:
        record = read(ActRecord, message.data)
    except Unreadable:
        return None
    name = subjects.token(message.subject, 3)
    return ActView(act=name, sequence=message.sequence, **dict(record))
