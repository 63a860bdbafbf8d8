"""A simulated process: tasks that can be killed or stopped together, and its links to the servers."""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context, ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fedbus_runtime.errors import BusAway, RecordsAway, StoreAway

from tests.simulation.plan import Fault, Noise
from tests.simulation.recording import Recording

T = TypeVar("T")

_CURRENT: ContextVar["Process"] = ContextVar("process")

LOST_WAIT_S = 1.0
"""How long an adapter waits for an answer that does not come."""


def current() -> "Process":
    """Give the process that the running task belongs to."""
    return _CURRENT.get()


def own_task(task: asyncio.Task[Any], context: Context | None) -> None:
    """Note a new task with the process whose task made it."""
    process = _CURRENT.get(None) if context is None else context.get(_CURRENT)
    if process is not None:
        process.own(task)


@dataclass(slots=True)
class Counter:
    """What a process's incarnations share: how many port calls were made, and the faults that wait."""

    name: str
    steps: int = 0
    faults: list[Fault] = field(default_factory=list)


class Process:
    """One incarnation of a service or client."""

    def __init__(
        self,
        counter: Counter,
        recording: Recording,
        noise: Noise,
        chance: Any,
        on_step: Callable[[], None],
        on_crash: Callable[["Process", float], None],
    ) -> None:
        self.name = counter.name
        self.recording = recording
        self.noise = noise
        self.chance = chance
        self.alive = True
        self.ready = False
        self.skew_s = 0.0
        self.compute_s = 0.0
        self.kept: Any = None
        self.transfers: Any = None
        self.bus = Link(self, "bus", BusAway)
        self.records = Link(self, "redis", RecordsAway)
        self.store = Link(self, "store", StoreAway)
        self.main: asyncio.Task[None] | None = None
        self._counter = counter
        self._on_step = on_step
        self._on_crash = on_crash
        self._tasks: list[asyncio.Task[Any]] = []
        self._going: asyncio.Event | None = None

    @property
    def is_stopped(self) -> bool:
        """Whether it was stopped and has not gone on yet."""
        return self.alive and self._going is not None

    def start(self, work: Awaitable[None], group: asyncio.TaskGroup) -> None:
        """Run the process's main function; all that it starts belongs to the process."""

        async def main() -> None:
            _CURRENT.set(self)
            task = asyncio.current_task()
            assert task is not None
            self.own(task)
            await work

        self.main = group.create_task(main(), context=Context())

    def own(self, task: asyncio.Task[Any]) -> None:
        if len(self._tasks) > 200:
            self._tasks = [one for one in self._tasks if not one.done()]
        self._tasks.append(task)

    def crash(self) -> None:
        """SIGKILL: nothing of this process happens any more."""
        self.alive = False
        self.recording.note(self.name, "dies")
        for task in self._tasks:
            if not task.done():
                task.cancel()
        if self._going is not None:
            self._going.set()

    def pause(self, for_s: float) -> None:
        """SIGSTOP, and SIGCONT later."""
        loop = asyncio.get_running_loop()
        if self._going is None:
            self._going = asyncio.Event()
            self.recording.note(self.name, f"is stopped for {for_s:.1f} s")
            loop.call_later(for_s, self._resume)

    def _resume(self) -> None:
        going, self._going = self._going, None
        if going is not None:
            self.recording.note(self.name, "goes on")
            going.set()

    async def awake(self) -> None:
        """Wait while the process is stopped; ends the task when it is dead."""
        while self._going is not None and self.alive:
            await self._going.wait()
        if not self.alive:
            raise asyncio.CancelledError

    async def point(self, call: str, *, after: bool) -> None:
        """A point before or after a port call's effect: here a process may be killed or stopped."""
        if not after and self.alive:
            self._counter.steps += 1
            self._on_step()
        if self._counter.faults:
            await self._suffer(call, after=after)
        await self.awake()

    async def _suffer(self, call: str, *, after: bool) -> None:
        for fault in list(self._counter.faults):
            if fault.step > self._counter.steps or (
                fault.after != after and fault.step == self._counter.steps
            ):
                continue
            self._counter.faults.remove(fault)
            side = "after" if after else "before"
            self.recording.note(self.name, f"{fault.kind} {side} {call}")
            if fault.kind == "crash":
                self.crash()
                self._on_crash(self, fault.for_s)
                raise asyncio.CancelledError
            if fault.kind == "pause":
                self.pause(fault.for_s)
            else:
                self.cut(fault.kind.removeprefix("cut_"), fault.for_s)

    def cut(self, server: str, for_s: float) -> None:
        """Cut the process off from a server for a while."""
        link = {"bus": self.bus, "redis": self.records, "store": self.store}[server]
        link.cut(for_s)


class Link:
    """A process's way to one server, with all that can go wrong on it."""

    def __init__(self, process: Process, server: str, away: type[Exception]) -> None:
        self.process = process
        self.server = server
        self.away = away
        self.is_cut = False
        self.slow_s = 0.0
        self.returned = asyncio.Event()
        self.lost = asyncio.Event()

    async def call(self, name: str, work: Callable[[], Awaitable[T]]) -> T:
        """Make one port call: the request may be lost, or the answer; both ways take time."""
        process, noise = self.process, self.process.noise
        await process.point(name, after=False)
        chance = process.chance
        noisy = noise.until_s > asyncio.get_running_loop().time()
        await asyncio.sleep(self._delay_s(noisy))
        if self.is_cut or (noisy and chance.random() < noise.loss):
            await self._lose(name, "request")
        try:
            result = await work()
        except Exception as error:
            process.recording.call(process.name, name, error)
            await self._way_back(name, noisy)
            raise
        process.recording.call(process.name, name, result)
        await self._way_back(name, noisy)
        return result

    async def _way_back(self, name: str, noisy: bool) -> None:
        await asyncio.sleep(self._delay_s(noisy))
        if self.is_cut or (noisy and self.process.chance.random() < self.process.noise.loss):
            await self._lose(name, "answer")
        await self.process.point(name, after=True)

    async def _lose(self, name: str, what: str) -> None:
        self.process.recording.note(self.process.name, f"{what} lost: {name}")
        await asyncio.sleep(LOST_WAIT_S)
        await self.process.awake()
        raise self.away(f"the {what} of {name} was lost on the way to {self.server}")

    def _delay_s(self, noisy: bool) -> float:
        chance = self.process.chance
        delay_s: float = 0.0005 * chance.random() + self.slow_s
        if noisy and self.process.noise.delay:
            delay_s += self.process.noise.delay * chance.random() * 2
            if chance.random() < 0.03:  # a long tail
                delay_s += 20 * self.process.noise.delay
        return delay_s

    def cut(self, for_s: float) -> None:
        """Let nothing through for a while."""
        if self.is_cut:
            return
        self.is_cut = True
        self.process.recording.note(
            self.process.name, f"is cut off from {self.server}, {for_s:.1f} s"
        )
        self.lost.set()
        asyncio.get_running_loop().call_later(for_s, self._mend)

    def _mend(self) -> None:
        self.is_cut = False
        self.process.recording.note(self.process.name, f"reaches {self.server} again")
        self.lost.clear()
        self.tell_return()

    def tell_return(self) -> None:
        """Wake whoever waits for the server's return."""
        back, self.returned = self.returned, asyncio.Event()
        back.set()
