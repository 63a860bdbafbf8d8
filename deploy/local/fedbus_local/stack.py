"""The local stack as an object: for the commands, the demo and tests.

    with LocalStack("data", controllers=2, combiners=2) as stack:
        credentials = stack.add_client("site-1")

The stack runs in a supervisor process of its own; this object asks it through its control socket. Every call
blocks for a few milliseconds; `async with` starts and stops in a thread.
"""

import asyncio
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from fedbus_schemas.credentials import Credentials

from fedbus_local import clients, control, daemon, keys, pids, plan, revoking
from fedbus_local.errors import DiskFull, LocalError, NotRunning, StartFailed
from fedbus_local.journal import read
from fedbus_local.layout import Layout, locked, write_private
from fedbus_local.plan import Wishes
from fedbus_local.reports import StackReport, State
from fedbus_local.supervisor import DISK_FREE_MIN

START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 45.0
END_TIMEOUT_S = 10.0
OUTPUT = "supervisor.out"

Progress = Callable[[StackReport], None]


class LocalStack:
    """One data directory and the stack in it.

    `services=False` starts the servers alone. `tied`: the stack dies with the calling process.
    """

    def __init__(
        self,
        directory: Path | str,
        *,
        controllers: int | None = None,
        combiners: int | None = None,
        services: bool = True,
        wishes: Wishes | None = None,
        tied: bool = True,
    ) -> None:
        self.layout = Layout.at(directory)
        self._wishes = wishes or Wishes(
            controllers=controllers, combiners=combiners, services=services
        )
        self._tied = tied
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.stop)

    def start(self, progress: Progress | None = None) -> bool:
        """Start it and return when all is healthy; False when it ran already. Leaves nothing half started."""
        self.layout.make()
        with locked(self.layout.run / "up.lock"):
            if self.running:
                return False
            self.settle()
            self._spawn()
        try:
            self.wait_healthy(progress=progress)
        except BaseException:
            self.stop()
            raise
        return True

    def settle(self) -> plan.Plan:
        """Decide hosts, ports and counts, check them and the disk, and remember them."""
        free = shutil.disk_usage(self.layout.root).free
        if free < DISK_FREE_MIN:
            raise DiskFull(
                f"only {free // 1024**2} MB are free in {self.layout.root}, "
                f"and {DISK_FREE_MIN // 1024**2} are needed; free some space or choose another place with --dir"
            )
        list(daemon.end_leftovers(self.layout))  # they would hold our own ports
        settled = plan.demand_free(plan.settle(plan.load(self.layout), self._wishes))
        plan.save(self.layout, settled)
        access = {"url": self.api_url, "token_file": str(self.layout.keys.resolve() / "api.token")}
        write_private(self.layout.api, json.dumps(access))
        return settled

    def stop(self, told: Callable[[str, str], None] = lambda _name, _how: None) -> bool:
        """Stop it and return when every process is gone; False when nothing ran."""
        patience_s = END_TIMEOUT_S
        try:
            for each in control.ask(self.layout, "stop", timeout_s=STOP_TIMEOUT_S):
                told(str(each["name"]), str(each["how"]))
            was_running = True
        except NotRunning:
            was_running = False
        except TimeoutError:
            was_running, patience_s = True, 0.0
        if self.layout.run.exists():
            self._await_end(patience_s)
            for name, pid in daemon.end_leftovers(self.layout):
                told(name, f"killed: pid {pid} was left behind")
                was_running = True
        return was_running

    @property
    def running(self) -> bool:
        """Whether a supervisor answers."""
        try:
            self._watch_once()
        except NotRunning:
            return False
        return True

    @property
    def plan(self) -> plan.Plan:
        """Its hosts, ports and counts. Raises `NotRunning` before the first start."""
        loaded = plan.load(self.layout)
        if loaded is None:
            raise NotRunning(self.layout.root)
        return loaded

    @property
    def api_url(self) -> str:
        """Where the api listens."""
        return f"http://{self.plan.here}:{self.plan.ports['api']}"

    @property
    def api_token(self) -> str:
        """The bearer token that the api takes."""
        return keys.read(self.layout, "api.token")

    @property
    def nats_url(self) -> str:
        """Where NATS listens, seen from this machine."""
        return f"nats://{self.plan.here}:{self.plan.ports['nats']}"

    @property
    def trust(self) -> tuple[str, ...]:
        """The public keys that sign mail and heads."""
        return keys.trusted(self.layout)

    def status(self) -> StackReport:
        """Ask every process for its health and say how the stack is."""
        return StackReport.model_validate(next(control.ask(self.layout, "status")))

    def pid(self, name: str) -> int:
        """Give a process's pid. Raises `LocalError` when it is unknown or down."""
        for each in self._watch_once().processes:
            if each.name == name and each.pid is not None:
                return each.pid
        raise LocalError(f"{name} is not running")

    def kill(
        self, name: str, number: signal.Signals = signal.SIGKILL, *, restart: bool = True
    ) -> int | None:
        """Send a signal to a process; with `restart=False` it stays down until `restart`."""
        [answer] = control.ask(self.layout, "kill", name=name, signal=number.name, restart=restart)
        pid = answer["pid"]
        return pid if isinstance(pid, int) else None

    def restart(self, name: str, *, environment: Mapping[str, str] | None = None) -> None:
        """Stop a process and start it again (or start one that was held down); return when it is healthy.

        `environment` is added for that start only: when it ends by itself, it begins again without.
        """
        list(control.ask(self.layout, "restart", name=name, environment=dict(environment or {})))
        self.wait_healthy(name)

    def scale(self, *, controllers: int | None = None, combiners: int | None = None) -> list[str]:
        """Start or stop services until there are so many; say what was done."""
        asked = {"controllers": controllers, "combiners": combiners}
        return [
            f"{each['name']} {each['how']}" for each in control.ask(self.layout, "scale", **asked)
        ]

    def wait_healthy(
        self,
        name: str | None = None,
        *,
        timeout_s: float = START_TIMEOUT_S,
        progress: Progress | None = None,
    ) -> None:
        """Return when a process, or all of them, are healthy. Raises `StartFailed` with the last log lines."""
        deadline_s = time.monotonic() + timeout_s
        report = self._watch_once()
        try:
            for content in control.ask(self.layout, "watch", timeout_s=timeout_s):
                report = StackReport.model_validate(content)
                if progress is not None:
                    progress(report)
                if _is_healthy(report, name):
                    return
                failed = [each.name for each in report.processes if each.state is State.FAILED]
                if failed and name in {None, *failed}:
                    raise StartFailed(self._why(failed[0]))
                if time.monotonic() > deadline_s:
                    break
        except TimeoutError:
            pass
        slow = [each.name for each in report.processes if each.state is not State.HEALTHY]
        raise StartFailed(
            f"not healthy within {timeout_s:g} s. " + self._why(name or (slow or ["fedbus"])[0])
        )

    def wait_down(self, name: str, *, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Return when a process that was killed with `restart=False` is gone."""
        for content in control.ask(self.layout, "watch", timeout_s=timeout_s):
            report = StackReport.model_validate(content)
            if any(each.name == name and each.state is State.STOPPED for each in report.processes):
                return

    def wait_reborn(self, name: str, pid: int | None, *, timeout_s: float = START_TIMEOUT_S) -> int:
        """Return when a process is healthy under another pid than that, and give it."""
        for content in control.ask(self.layout, "watch", timeout_s=timeout_s):
            for each in StackReport.model_validate(content).processes:
                if (
                    each.name == name
                    and each.pid not in {None, pid}
                    and each.state is State.HEALTHY
                ):
                    assert each.pid is not None
                    return each.pid
        raise NotRunning(self.layout.root)

    def add_client(self, name: str, project: str = clients.DEFAULT_PROJECT) -> Path:
        """Let a client join and give its credentials file."""
        return self.add_clients([name], project)[0]

    def add_clients(
        self, names: Sequence[str], project: str = clients.DEFAULT_PROJECT
    ) -> list[Path]:
        """Let many clients join at once and give their credentials files."""
        made = self.make_credentials(names, project)
        return [self.write_credentials(each) for each in made]

    def make_credentials(
        self,
        names: Sequence[str],
        project: str = clients.DEFAULT_PROJECT,
        host: str | None = None,
        *,
        websocket: bool = False,
    ) -> list[Credentials]:
        """Let clients join and give their credentials; the stack need not run.

        `host` is how they reach this machine; with `websocket` they do so over HTTP.
        """
        return clients.add(self.layout, self.plan, names, project, host, websocket=websocket)

    def write_credentials(self, credentials: Credentials, path: Path | None = None) -> Path:
        """Write a credentials file that only its owner can read."""
        target = path or self.layout.clients / f"{credentials.project}.{credentials.name}.json"
        write_private(target, credentials.model_dump_json(indent=2) + "\n")
        return target

    def remove_client(self, name: str, project: str = clients.DEFAULT_PROJECT) -> None:
        """Let a client join no more; cuts its connection. Raises `NotRunning`: the api has to hear of it."""
        revoking.revoke(self.api_url, self.api_token, clients.find(self.layout, name, project))
        clients.remove(self.layout, name, project)

    def _watch_once(self) -> StackReport:
        return StackReport.model_validate(next(control.ask(self.layout, "watch")))

    def _spawn(self) -> None:
        """Start the supervisor and return when it answers."""
        self._reap()
        ours, theirs = os.pipe()
        output = self.layout.logs / OUTPUT
        command = [
            sys.executable,
            "-m",
            "fedbus_local.daemon",
            str(self.layout.root),
            f"--ready={theirs}",
        ]
        if self._tied:
            command.append(f"--tied={os.getpid()}")
        with output.open("w") as file, os.fdopen(ours, "rb") as ready:
            self._process = subprocess.Popen(  # noqa: S603  # our own module
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                pass_fds=[theirs],
                start_new_session=True,
            )
            os.close(theirs)
            readable, _, _ = select.select([ready], [], [], START_TIMEOUT_S)
            if not readable or not ready.read():
                raise StartFailed(f"the supervisor did not start: {output.read_text()[-2000:]}")

    def _await_end(self, within_s: float) -> None:
        """Wait until the supervisor is gone; one that hangs is killed, and its children with it."""
        pid = pids.alive(self.layout.pid_file(daemon.NAME))
        if pid is not None and not pids.ends(pid, within_s):
            pids.send(pid, signal.SIGKILL)
        self._reap()
        with locked(self.layout.run / daemon.LOCK):
            pass

    def _reap(self) -> None:
        """Take note of the end of a supervisor that we started."""
        if self._process is not None:
            self._process.wait(STOP_TIMEOUT_S)
            self._process = None

    def _why(self, name: str) -> str:
        lines = [each["line"] for each in read(self.layout.logs, 12, name)]
        return f"{name} is not healthy; its last lines (see also: fedbus logs):\n" + "\n".join(
            lines
        )


def _is_healthy(report: StackReport, name: str | None) -> bool:
    if name is None:
        return report.healthy
    return any(each.name == name and each.state is State.HEALTHY for each in report.processes)
