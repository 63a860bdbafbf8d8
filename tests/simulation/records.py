"""Redis as one simulated process sees it: the memory twins, behind a link where things go wrong."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from fedbus_runtime.memory_records import MemoryPresence, MemoryRoundRecords
from fedbus_runtime.ports import LiveRound, RoundKey, Tally
from fedbus_schemas.ids import ClientId, ProjectId, SessionId
from fedbus_schemas.work import PartialRecord

from tests.simulation.processes import Link, Process

if TYPE_CHECKING:
    from tests.simulation.world import World


class SimRecords:
    """`ports.RoundRecords` of a process. Redis must never count more than is stored."""

    def __init__(self, world: "World", process: Process) -> None:
        self._world = world
        self._inner = MemoryRoundRecords(world.redis)
        self._link: Link = process.records

    async def put_round(self, state: LiveRound) -> None:
        await self._link.call(
            f"put round, entry {state.number}", lambda: self._inner.put_round(state)
        )

    async def get_round(self, project: ProjectId, session: SessionId) -> LiveRound | None:
        return await self._link.call("get round", lambda: self._inner.get_round(project, session))

    async def count(self, key: RoundKey, updates: Mapping[ClientId, int], batch_size: int) -> Tally:
        async def work() -> Tally:
            tally = await self._inner.count(key, updates, batch_size)
            self._world.check_tally(key, tally)
            return tally

        return await self._link.call(f"count {key.round}.{key.attempt}", work)

    async def counted(self, key: RoundKey) -> dict[ClientId, int]:
        return await self._link.call("counted", lambda: self._inner.counted(key))

    async def put_partial(self, key: RoundKey, partial: PartialRecord) -> None:
        await self._link.call("put partial", lambda: self._inner.put_partial(key, partial))

    async def partials(self, key: RoundKey) -> list[PartialRecord]:
        return await self._link.call("partials", lambda: self._inner.partials(key))

    async def forget(self, key: RoundKey) -> None:
        await self._link.call(f"forget {key.round}.{key.attempt}", lambda: self._inner.forget(key))

    def epoch(self) -> str:
        return self._inner.epoch()


class SimPresence:
    """`ports.Presence` of a process."""

    def __init__(self, world: "World", process: Process) -> None:
        self._inner = MemoryPresence(world.redis)
        self._link = process.records

    async def seen(self, project: ProjectId, clients: Sequence[ClientId], at: datetime) -> None:
        await self._link.call("seen", lambda: self._inner.seen(project, clients, at))

    async def online(self, project: ProjectId, since: datetime) -> dict[ClientId, datetime] | None:
        return await self._link.call("online", lambda: self._inner.online(project, since))

    async def gone(self, project: ProjectId, clients: Sequence[ClientId], heard: datetime) -> None:
        await self._link.call("gone", lambda: self._inner.gone(project, clients, heard))

    async def known_since(self, project: ProjectId) -> datetime | None:
        return await self._link.call("known_since", lambda: self._inner.known_since(project))
