"""Which sessions are not at an end, which of them wait for clients, and which have ended and are not archived.

Read from the log at the start, then kept by the live feed. Only a convenience for notices and for
repeating effects: a session that is missed looks again by itself.
"""

from collections.abc import Awaitable, Callable

import structlog
from fedbus_core.rounds.log import LogBroken
from fedbus_core.rounds.state import Session, SessionPhase
from fedbus_runtime.errors import RuntimeFault
from fedbus_runtime.folded_log import FoldedLog
from fedbus_runtime.ports import Clock, Streams, Wire
from fedbus_schemas import subjects
from fedbus_schemas.codec import UnknownEvent
from fedbus_schemas.ids import ProjectId, SessionId
from fedbus_schemas.streams import EVENTS

LOOK_AGAIN_S = 5.0

_log = structlog.get_logger(__name__)


class OpenSessions:
    """The (project, session) pairs that are not at an end."""

    def __init__(self, streams: Streams, wire: Wire, log: FoldedLog[Session]) -> None:
        self._streams = streams
        self._wire = wire
        self._fold = log
        self.waiting: set[tuple[ProjectId, SessionId]] = set()
        self.open: set[tuple[ProjectId, SessionId]] = set()
        self.ended: set[tuple[ProjectId, SessionId]] = set()

    async def read(self) -> None:
        """Fold every session of the log once."""
        for subject in await self._streams.subjects(EVENTS, subjects.ALL_EVENTS):
            project, session = subjects.token(subject, 1), subjects.token(subject, 3)
            await self._look(project, session)
        _log.info("sessions.read", open=len(self.open), waiting=len(self.waiting))

    async def follow(
        self, look_for_clients: Callable[[ProjectId, SessionId], Awaitable[None]]
    ) -> None:
        """Keep up with the live feed until cancelled, and look for clients when a session waits for some.

        Clients that came between the decision to wait and the moment when this process knew of it sent
        their notice in vain.
        """
        for project, session in sorted(self.waiting):
            await if_possible(look_for_clients(project, session))
        async for message in self._wire.listen(subjects.live_event("*")):
            key = subjects.token(message.subject, 1), subjects.token(message.subject, 3)
            await if_possible(self._look(*key))
            if key in self.waiting:
                await if_possible(look_for_clients(*key))

    async def look_again(
        self, clock: Clock, look_for_clients: Callable[[ProjectId, SessionId], Awaitable[None]]
    ) -> None:
        """Look for clients of waiting sessions now and then, until cancelled.

        A notice can be lost, and after an outage of Redis clients are back with a heartbeat, which sends none.
        """
        while True:
            await clock.sleep(LOOK_AGAIN_S)
            for project, session in sorted(self.waiting):
                await if_possible(look_for_clients(project, session))

    async def _look(self, project: ProjectId, session: SessionId) -> None:
        try:
            state = await self._fold.newest(project, session)
        except (LogBroken, UnknownEvent) as error:
            _log.critical("log.broken", project=project, session=session, why=str(error))
            state = None  # nothing is decided on it; the other sessions go on
        key = (project, session)
        self._keep(self.open, key, state is not None and not state.ended)
        archivable = state is not None and state.ended and not state.archived
        self._keep(self.ended, key, archivable)
        self._keep(
            self.waiting,
            key,
            state is not None and state.phase is SessionPhase.WAITING and not state.rest,
        )

    def _keep(
        self, kept: set[tuple[ProjectId, SessionId]], key: tuple[ProjectId, SessionId], wanted: bool
    ) -> None:
        if wanted:
            kept.add(key)
        else:
            kept.discard(key)


async def if_possible(
    doing: Awaitable[None], *, unless: type[RuntimeFault] | tuple[()] = ()
) -> None:
    """Do it, if the servers and the session's log let us. What is missed here comes right by itself, later,
    and what is wrong with one session ends no loop that serves them all. Raises `unless`.
    """
    try:
        await doing
    except unless:
        raise
    except (RuntimeFault, LogBroken, UnknownEvent) as fault:
        _log.warning("sessions.missed", why=str(fault))
