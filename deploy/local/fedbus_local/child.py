"""One process kept alive: started, read, asked for its health, and started again after a bounded back-off.

A `Child` has many lives. `run` is the only place that starts one; everybody else sends signals, sets what is
wanted, and wakes it.
"""

import asyncio
import os
import signal
import time
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Callable, Mapping
from contextlib import suppress

from fedbus_local import pids
from fedbus_local.journal import LINE_BYTES_MAX, Journal
from fedbus_local.layout import Layout
from fedbus_local.leash import tie_to
from fedbus_local.programs import Program
from fedbus_local.reports import ProcessReport, State

BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 10.0
FAILURES_MAX = 4
"""Lives in a row that ended before they were healthy; then a child counts as failed, and goes on trying."""
LOOK_STARTING_S = 0.1
LOOK_S = 2.0
PIPE_TIMEOUT_S = 1.0
_READ_BYTES = 64 * 1024


def backoff_s(failures: int) -> float:
    """Give the wait before the next life after so many failures in a row."""
    return float(min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** max(0, failures - 1)))


class Child:
    """A program under supervision."""

    def __init__(
        self,
        program: Program,
        layout: Layout,
        journal: Journal,
        *,
        changed: Callable[[], None],
        heard: Callable[[str, str], None],
    ) -> None:
        self.program = program
        self.state = State.STARTING
        self.reason: str | None = None
        self.restarts = 0
        self._layout = layout
        self._journal = journal
        self._changed = changed
        self._heard = heard
        self._process: Process | None = None
        self._born_s = time.monotonic()
        self._was_healthy = False
        self._kept = True
        self._again = False
        self._more: Mapping[str, str] = {}
        self._ended = False
        self._wake = asyncio.Event()
        self._gone = asyncio.Event()
        self._healthy = asyncio.Event()
        self._gone.set()

    @property
    def name(self) -> str:
        """The process's name, as `combiner-1`."""
        return self.program.name

    @property
    def pid(self) -> int | None:
        """The pid of the present life."""
        return self._process.pid if self._process is not None else None

    async def run(self) -> None:
        """Keep it alive until `stop`."""
        failures = 0
        while not self._ended:
            if not self._kept:
                self._set(State.STOPPED, self.reason)
                await self._pause(None)
                continue
            self._again = False
            self._set(State.STARTING, self.reason)
            await self._live()
            failures = 0 if self._was_healthy or self._again else failures + 1
            if self._ended or not self._kept or self._again:
                continue
            self.restarts += 1
            self._set(State.FAILED if failures >= FAILURES_MAX else State.RESTARTING, self.reason)
            wait_s = backoff_s(failures)
            self._journal.note(f"{self.name} {self.reason}; starting it again in {wait_s:g} s")
            await self._pause(wait_s)

    async def wait_healthy(self) -> None:
        """Return when it is healthy."""
        await self._healthy.wait()

    def kill(self, number: signal.Signals, *, restart: bool) -> int | None:
        """Send a signal; with `restart=False` a process that ends of it stays down."""
        self._kept = restart
        if self._process is not None:
            pids.send(self._process.pid, number)
        return self.pid

    async def restart(self, more: Mapping[str, str] | None = None) -> None:
        """End the present life and begin another at once; also for one that was held down.

        `more` is added to the environment of that one life.
        """
        self._kept = self._again = True
        self._more = more or {}
        await self._end_life()
        self._wake.set()

    async def stop(self) -> str:
        """End it for good and say how that went."""
        self._ended = True
        self._wake.set()
        return await self._end_life()

    def report(self) -> ProcessReport:
        """Say how it is."""
        alive = self._process is not None
        return ProcessReport(
            name=self.name,
            role=self.program.role,
            pid=self.pid,
            state=self.state,
            uptime_s=round(time.monotonic() - self._born_s, 1) if alive else 0.0,
            restarts=self.restarts,
            port=self.program.port,
            reason=None if self.state is State.HEALTHY else self.reason,
        )

    async def look(self) -> None:
        """Ask for its health right now."""
        process = self._process
        if process is None:
            return
        reason = await self.program.probe()
        if process is self._process:
            self._judge(reason)

    async def _live(self) -> None:
        """Run one life to its end."""
        self._was_healthy = False
        self._clear_leftovers()
        more, self._more = self._more, {}
        try:
            process = await asyncio.create_subprocess_exec(
                *self.program.command,
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=STDOUT,
                cwd=self.program.folder,
                env={**self.program.environ(), **more},
                process_group=0,
                preexec_fn=tie_to(os.getpid()),
            )
        except OSError as error:
            self.reason = f"could not be started: {error.strerror}"
            return
        self._process, self._born_s = process, time.monotonic()
        self._gone.clear()
        if self._ended:  # `stop` came while the process was being made
            pids.send(process.pid, signal.SIGTERM)
        pid_file = self._layout.pid_file(self.name)
        pids.write(pid_file, process.pid)
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(self._read(process))
            watching = tasks.create_task(self._watch())
            code = await process.wait()
            watching.cancel()
            await asyncio.wait([reading], timeout=PIPE_TIMEOUT_S)
            reading.cancel()
        self._end_group(process.pid)
        self._process = None
        self._healthy.clear()
        pid_file.unlink(missing_ok=True)
        self._clear_leftovers()
        self.reason = _ending(code)
        self._gone.set()
        self._changed()

    async def _end_life(self) -> str:
        process = self._process
        if process is None:
            return "was not running"
        begun_s = time.monotonic()
        pids.send(process.pid, signal.SIGTERM)
        try:
            async with asyncio.timeout(self.program.stop_timeout_s):
                await self._gone.wait()
        except TimeoutError:
            self._end_group(process.pid)
            await self._gone.wait()
            return f"killed: it did not stop within {self.program.stop_timeout_s:g} s"
        return f"stopped in {time.monotonic() - begun_s:.1f} s"

    async def _read(self, process: Process) -> None:
        assert process.stdout is not None
        rest = b""
        while part := await process.stdout.read(_READ_BYTES):
            *lines, rest = (rest + part).split(b"\n")
            if len(rest) > LINE_BYTES_MAX:
                lines.append(rest)
                rest = b""
            for line in lines:
                self._tell(line)
        self._tell(rest)

    def _tell(self, line: bytes) -> None:
        text = line[:LINE_BYTES_MAX].decode(errors="replace").rstrip()
        if not text:
            return
        self._heard(self.name, text)
        if self.program.noise is None or not self.program.noise.match(text):
            self._journal.write(self.name, text)

    async def _watch(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(LOOK_STARTING_S if self.state is State.STARTING else LOOK_S)

    def _judge(self, reason: str | None) -> None:
        if reason is None:
            self._was_healthy = True
            self._healthy.set()
            self._set(State.HEALTHY, None)
        elif self._was_healthy:
            self._healthy.clear()
            self._set(State.UNHEALTHY, reason)
        else:
            self.reason = reason

    def _set(self, state: State, reason: str | None) -> None:
        self.reason = reason
        if state is not self.state:
            if State.UNHEALTHY in {state, self.state}:
                self._journal.note(f"{self.name} is {state}" + (f": {reason}" if reason else ""))
            self.state = state
            self._changed()

    async def _pause(self, wait_s: float | None) -> None:
        """Wait so long, or until somebody wants something."""
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._wake.wait()
        self._wake.clear()

    def _end_group(self, group: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)

    def _clear_leftovers(self) -> None:
        for path in self.program.leftovers:
            with suppress(OSError):
                if path.is_socket():
                    path.unlink()


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
