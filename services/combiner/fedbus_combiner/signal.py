"""Tells the controllers that clients arrived: many arrivals while one notice is under way become one."""

import asyncio

from fedbus_runtime.errors import NoAnswer
from fedbus_runtime.ports import Wire
from fedbus_schemas import subjects
from fedbus_schemas.ids import ProjectId
from fedbus_schemas.inputs import ClientsChanged

NOTICE_TIMEOUT_S = 2.0


class Signal:
    """Fired by anyone, carried by one task."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._projects: set[ProjectId] = set()
        self._fired = asyncio.Event()

    def fire(self, project: ProjectId) -> None:
        """Clients of this project came online."""
        self._projects.add(project)
        self._fired.set()

    async def run(self) -> None:
        """Send notices until cancelled. A lost one costs a wait: a waiting session looks again by itself."""
        while True:
            await self._fired.wait()
            self._fired.clear()
            while self._projects:
                subject = subjects.notice(self._projects.pop(), subjects.ANY_SESSION)
                try:
                    await self._wire.request(subject, ClientsChanged().to_bytes(), NOTICE_TIMEOUT_S)
                except NoAnswer:
                    continue
