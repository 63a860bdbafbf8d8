"""Runs a package's command within limits, in processes that end with it. Blocking: call it in a thread."""

import json
import os
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isinf
from pathlib import Path

from fedbus.errors import BadPackage, OverLimit, PackageFailed, TaskAborted
from fedbus.packages import keeper
from fedbus.packages.limits import RunLimits

LOOK_S = 0.1
"""How often a thread that waits for a package asks whether its task was withdrawn."""
REPORT_BYTES_MAX = 512 * 1024
_RULES = {"cpu": "limits.cpu_s", "memory": "limits.memory_mib"}
"""The owner's rule that sets a limit."""

_TOLD = {
    "timeout": "it ran longer than timeout_s = {timeout_s:g} s and was ended",
    "cpu": "it computed for more than cpu_s = {cpu_s:g} s and was ended",
    "memory": "it took more than memory_bytes = {memory_bytes} and was ended",
    "processes": "it had more than processes_max = {processes_max} processes and was ended",
    "disk": "it put more than disk_bytes = {disk_bytes} or disk_files_max = {disk_files_max} files on the "
    "disk and was ended",
    "start": "it could not be started",
}


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended. `how` is "exited", a limit's name, "stopped" or "start"."""

    how: str
    code: int | None
    stdout: str
    stderr: str
    seconds: float
    memory: int = 0
    processes: int = 0
    left: int = 0

    @property
    def is_well(self) -> bool:
        """Whether it ended by itself and with 0."""
        return self.how == "exited" and self.code == 0

    @property
    def line(self) -> str:
        """Give the command's own last word: the error of its last traceback, pip's, or its last line."""
        return error_line(self.stderr) or error_line(self.stdout)

    def demand_well(self, what: str, limits: RunLimits) -> None:
        """Raise `PackageFailed` unless it ended well, `TaskAborted` if its task was withdrawn.

        And `OverLimit` where the limit that it passed is the data owner's.
        """
        if self.is_well:
            return
        told = f"it ended with {self.code}"
        if self.how == "stopped":
            raise TaskAborted(f"{what}: its task was withdrawn, so it was ended")
        if self.how != "exited":
            told = _TOLD[self.how].format(
                **{name: getattr(limits, name) for name in limits.__slots__}
            )
            rule = _RULES.get(self.how)
            if rule in limits.rules:
                raise OverLimit(what, str(rule), told)
        elif self.code is not None and self.code < 0:
            told = f"it was ended by signal {-self.code}"
        raise PackageFailed(what, told, self.line)


class Contained:
    """A command that runs under its keeper, which ends it and all that it started."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        folder: Path,
        env: Mapping[str, str],
        watched: Sequence[Path],
        limits: RunLimits,
        passed: int | None = None,
    ) -> None:
        """Begin. `passed` is a file descriptor for the command, under the same number.

        Raises `BadPackage` where it cannot be run at all.
        """
        if sys.platform != "linux":
            raise BadPackage(
                "packages run on Linux only: elsewhere their processes could not be ended surely"
            )
        asked = {
            "command": list(command),
            "folder": str(folder),
            "env": dict(env),
            "watched": [str(one) for one in watched],
            "passed": [] if passed is None else [passed],
            **{name: getattr(limits, name) for name in limits.__slots__},
            "cpu_s": None if isinf(limits.cpu_s) else limits.cpu_s,
        }
        self._stopping = threading.Lock()
        self._keeper = subprocess.Popen(  # noqa: S603  # our own script
            [sys.executable, "-I", "-S", keeper.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=asked["passed"],
            start_new_session=True,  # Ctrl-C is for the client: it tells the keeper
        )
        assert self._keeper.stdin is not None
        self._keeper.stdin.write(json.dumps(asked).encode() + b"\n")
        self._keeper.stdin.flush()

    def cpu_s(self) -> float:
        """How many seconds its processes have computed so far."""
        return keeper.Tree(self._keeper.pid).cpu_s()

    def stop(self) -> None:
        """Ask it to end, and have it ended when its grace is over. Does not wait; from any thread."""
        assert self._keeper.stdin is not None
        with self._stopping:
            self._keeper.stdin.close()

    def wait(self, cancelled: Callable[[], bool] = lambda: False) -> Ended:
        """Wait for the end, or until `cancelled()`; whatever it started has ended too."""
        assert self._keeper.stdout is not None
        report = _report(self._keeper.stdout.fileno(), cancelled, self.stop)
        self.stop()
        self._keeper.stdout.close()
        self._keeper.wait()
        if not report:
            return Ended("exited", None, "", "the process that watches it was ended", 0.0)
        return Ended(**json.loads(report))


def run(
    command: Sequence[str],
    *,
    folder: Path,
    env: Mapping[str, str],
    watched: Sequence[Path] = (),
    limits: RunLimits | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Ended:
    """Run a command to its end, or until `cancelled()`; whatever it started has ended too.

    `watched` are the folders whose contents count as its disk. Needs Linux for processes that leave their
    session, and for memory and processes to be counted. Raises `BadPackage` where it cannot be run at all.
    """
    contained = Contained(
        command, folder=folder, env=env, watched=watched, limits=limits or RunLimits()
    )
    return contained.wait(cancelled)


def error_line(text: str) -> str:
    """Find in a program's output the line that says what went wrong."""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    starts = [place for place, line in enumerate(lines) if line.startswith("Traceback (")]
    if starts:
        after = [line for line in lines[starts[-1] + 1 :] if not line.startswith(" ")]
        return after[0] if after else lines[-1]
    told = [line for line in lines if line.startswith("ERROR:")]
    return (told or lines or [""])[-1]


def _report(pipe: int, cancelled: Callable[[], bool], stop: Callable[[], None]) -> bytes:
    data, told = b"", False
    while True:
        if not told and cancelled():
            stop()
            told = True
        if select.select([pipe], [], [], LOOK_S)[0]:
            part = os.read(pipe, 64 * 1024)
            if not part or len(data) > REPORT_BYTES_MAX:
                return data
            data += part
