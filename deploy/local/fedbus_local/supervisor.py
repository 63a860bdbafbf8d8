"""Runs the stack: servers first, services once these are healthy, and stops it in reverse order.

One task group holds everything. Whoever wants something of it asks through the control socket.
"""

import asyncio
import re
import shutil
import signal
from collections.abc import AsyncIterator, Callable

from fedbus_local import control, keys, plan, servers, services
from fedbus_local.child import Child
from fedbus_local.control import Json
from fedbus_local.errors import LocalError
from fedbus_local.feed import Feed
from fedbus_local.journal import Journal
from fedbus_local.layout import Layout
from fedbus_local.programs import SERVER, Program
from fedbus_local.reports import StackReport, State

DISK_FREE_MIN = 512 * 1024**2
DISK_LOOK_S = 5.0

_FULL = re.compile(
    r"no space left on device|insufficient storage|disk quota exceeded", re.IGNORECASE
)


class Supervisor:
    """The running stack."""

    def __init__(self, layout: Layout, stack: plan.Plan, journal: Journal, pid: int) -> None:
        self._layout = layout
        self._plan = stack
        self._journal = journal
        self._pid = pid
        self._children: dict[str, Child] = {}
        self._changes: Feed[None] = Feed()
        self._full: set[str] = set()
        self._stop_asked = asyncio.Event()
        self._stopping = Feed[Json]()
        self._tasks = asyncio.TaskGroup()

    async def run(self, ready: Callable[[], None]) -> None:
        """Run until somebody asks to stop. `ready` is called when the control socket answers."""
        keys.ensure(self._layout)
        operations: dict[str, control.Operation] = {
            "status": self._status,
            "watch": self._watch,
            "follow": self._follow,
            "stop": self._stop,
            "kill": self._kill,
            "restart": self._restart,
            "scale": self._scale,
        }
        async with control.serve(self._layout, operations), self._tasks:
            for program in servers.all_of(self._layout, self._plan):
                self._launch(program)
            background = [
                self._tasks.create_task(self._launch_services()),
                self._tasks.create_task(self._watch_disk()),
            ]
            ready()
            await self._stop_asked.wait()
            for task in background:
                task.cancel()
            await self._shut_down()

    def ask_to_stop(self) -> None:
        """Stop as soon as possible."""
        self._stop_asked.set()

    def _launch(self, program: Program) -> None:
        child = Child(
            program,
            self._layout,
            self._journal,
            changed=lambda: self._changes.send(None),
            heard=self._hear,
        )
        self._children[program.name] = child
        self._tasks.create_task(child.run())

    async def _launch_services(self) -> None:
        for child in self._of(servers_only=True):
            await child.wait_healthy()
        for program in services.all_of(self._layout, self._plan):
            if program.name not in self._children:
                self._launch(program)
        self._changes.send(None)

    async def _shut_down(self) -> None:
        """Services first, last started first; then the servers. Side by side within each."""
        for servers_only in (False, True):
            async with asyncio.TaskGroup() as tasks:
                for child in reversed(self._of(servers_only=servers_only)):
                    tasks.create_task(self._end(child))

    async def _end(self, child: Child) -> None:
        how = await child.stop()
        self._journal.note(f"{child.name} {how}")
        self._stopping.send({"name": child.name, "how": how})

    def _of(self, *, servers_only: bool) -> list[Child]:
        return [
            each
            for each in self._children.values()
            if (each.program.role == SERVER) is servers_only
        ]

    def _child(self, question: Json) -> Child:
        child = self._children.get(str(question.get("name")))
        if child is None:
            raise LocalError(
                f"there is no process {question.get('name')}; there are: {', '.join(self._children)}"
            )
        return child

    def _hear(self, name: str, line: str) -> None:
        if self._children[name].program.role == SERVER and _FULL.search(line):
            if name not in self._full:
                self._journal.note(f"DISK FULL: {name} could not write; free some space")
            self._full.add(name)

    async def _watch_disk(self) -> None:
        """Say loudly that space runs out; restart a server that gave up for want of it once there is some."""
        low = False
        while True:
            free = self._free()
            if (free < DISK_FREE_MIN) is not low:
                low = not low
                self._journal.note(
                    f"DISK NEARLY FULL: {free // 1024**2} MB left"
                    if low
                    else "there is space on the disk again"
                )
            if not low:
                await self._wake_the_full()
            await asyncio.sleep(DISK_LOOK_S)

    async def _wake_the_full(self) -> None:
        for name in sorted(self._full):
            child = self._children[name]
            await child.look()
            if child.state is State.UNHEALTHY:
                self._journal.note(f"restarting {name}: it gave up when the disk was full")
                await child.restart()
        self._full.clear()

    def _free(self) -> int:
        """Give the least free space; a server's directory may be a disk of its own."""
        stores = [self._layout.store(each.name) for each in self._of(servers_only=True)]
        places = [self._layout.root, *(each for each in stores if each.is_dir())]
        return min(shutil.disk_usage(each).free for each in places)

    def report(self) -> StackReport:
        """Say how the stack is."""
        here, public, numbers = self._plan.here, self._plan.public_host, self._plan.ports
        free = self._free()
        warnings = [f"{name} said that the disk is full" for name in sorted(self._full)]
        if free < DISK_FREE_MIN:
            warnings.append(f"the disk is nearly full: {free // 1024**2} MB left")
        waiting = [name for _, name in self._plan.instances if name not in self._children]
        if waiting:
            warnings.append(f"waiting for the servers before starting {', '.join(waiting)}")
        return StackReport(
            directory=str(self._layout.root),
            pid=self._pid,
            api_url=f"http://{here}:{numbers['api']}" if self._plan.services else None,
            nats_url=f"nats://{public}:{numbers['nats']}",
            s3_url=f"http://{public}:{numbers['s3']}",
            disk_free_bytes=free,
            warnings=tuple(warnings),
            processes=tuple(each.report() for each in self._children.values()),
            expected=len(self._plan.instances) + len(self._of(servers_only=True)),
        )

    async def _status(self, _question: Json) -> AsyncIterator[Json]:
        async with asyncio.TaskGroup() as tasks:
            for child in self._children.values():
                tasks.create_task(child.look())
        yield self.report().model_dump(mode="json")

    async def _watch(self, _question: Json) -> AsyncIterator[Json]:
        """Tell how the stack is, now and at every change."""
        with self._changes.listen() as changes:
            while True:
                yield self.report().model_dump(mode="json")
                await changes.get()

    async def _follow(self, _question: Json) -> AsyncIterator[Json]:
        """Hand on log entries as they are written."""
        with self._journal.feed.listen() as entries:
            while True:
                yield dict(await entries.get())

    async def _stop(self, _question: Json) -> AsyncIterator[Json]:
        """Tell of each process as it ends; the end of the last is the end of the answer."""
        with self._stopping.listen() as stopped:
            left = len(self._children)
            self.ask_to_stop()
            for _ in range(left):
                yield await stopped.get()

    async def _kill(self, question: Json) -> AsyncIterator[Json]:
        try:
            number = signal.Signals[str(question.get("signal", "SIGKILL"))]
        except KeyError as error:
            raise LocalError(f"there is no signal {question.get('signal')}") from error
        child = self._child(question)
        yield {"pid": child.kill(number, restart=question.get("restart") is not False)}

    async def _restart(self, question: Json) -> AsyncIterator[Json]:
        child = self._child(question)
        more = question.get("environment")
        await child.restart(
            {str(name): str(text) for name, text in more.items()} if isinstance(more, dict) else {}
        )
        yield {"name": child.name}

    async def _scale(self, question: Json) -> AsyncIterator[Json]:
        """Start or stop services until there are as many as asked."""
        wanted = {
            role: question[role]
            for role in ("controllers", "combiners")
            if isinstance(question.get(role), int)
        }
        self._plan = plan.with_ports(
            plan.Plan.model_validate({**self._plan.model_dump(), **wanted})
        )
        plan.save(self._layout, self._plan)
        names = {name for _, name in self._plan.instances}
        for child in self._of(servers_only=False):
            if child.name not in names:
                how = await child.stop()
                del self._children[child.name]
                yield {"name": child.name, "how": how}
        if all(each.state is State.HEALTHY for each in self._of(servers_only=True)):
            for program in services.all_of(self._layout, self._plan):
                if program.name not in self._children:
                    self._launch(program)
                    yield {"name": program.name, "how": "started"}
        self._changes.send(None)
