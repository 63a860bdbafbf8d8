"""Archives ended sessions by age and number, so that updates do not grow without end."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import datetime, timedelta

from fedbus_runtime.ports import Clock, Streams
from fedbus_runtime.retention import Retention
from fedbus_schemas import subjects
from fedbus_schemas.ids import ProjectId, SessionId
from fedbus_schemas.streams import EVENTS

from fedbus_controller.open_sessions import OpenSessions, if_possible

Ended = tuple[datetime, SessionId]
"""When a session ended, and which."""


class Archiving:
    """Finds ended sessions that are kept no longer. All controllers look; the first one archives."""

    def __init__(self, streams: Streams, sessions: OpenSessions, retention: Retention) -> None:
        self._streams = streams
        self._sessions = sessions
        self._retention = retention

    async def run(
        self, clock: Clock, archive: Callable[[ProjectId, SessionId], Awaitable[None]]
    ) -> None:
        """Look now and then, until cancelled."""
        every_s = self._retention.look_every / timedelta(seconds=1)
        while True:
            await if_possible(self.look(clock.now(), archive))
            await clock.sleep(every_s)

    async def look(
        self, now: datetime, archive: Callable[[ProjectId, SessionId], Awaitable[None]]
    ) -> None:
        """Archive what is kept no longer. Raises `BusAway`."""
        retention = self._retention
        if retention.archive_after is None and retention.ended_sessions_max is None:
            return
        for project, ended in (await self._ended()).items():
            for session in old(ended, now, retention):
                await if_possible(archive(project, session))

    async def _ended(self) -> dict[ProjectId, list[Ended]]:
        """Give when each ended session ended: its last entry says so, for nothing comes after it."""
        found: defaultdict[ProjectId, list[Ended]] = defaultdict(list)
        for project, session in sorted(self._sessions.ended):
            last = await self._streams.last(EVENTS, subjects.event(project, session))
            if last is not None:
                found[project].append((last.time, session))
        return found


def old(ended: Sequence[Ended], now: datetime, retention: Retention) -> Iterator[SessionId]:
    """Say which of a project's ended sessions are kept no longer."""
    most, age = retention.ended_sessions_max, retention.archive_after
    for place, (at, session) in enumerate(sorted(ended, reverse=True)):
        if (most is not None and place >= most) or (age is not None and now - at >= age):
            yield session
