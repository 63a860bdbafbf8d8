"""Pid files that survive a reused pid: beside the pid stands when that process started."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from fedbus_local.layout import write_private

_LOOK_INTERVAL_S = 0.02
_START_FIELD = 19
"""Field 22 of /proc/<pid>/stat, counted from behind the command's closing bracket."""


def write(path: Path, pid: int) -> None:
    """Note that `pid` runs."""
    write_private(path, json.dumps({"pid": pid, "started": started(pid)}) + "\n")


def alive(path: Path) -> int | None:
    """Give the pid that the file names if that very process still runs."""
    try:
        content = json.loads(path.read_text())
        pid, then = int(content["pid"]), content["started"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return pid if then is not None and started(pid) == then else None


def started(pid: int) -> str | None:
    """Say when a process started, in a form that is only good for comparing; None when it is gone."""
    if sys.platform != "linux":
        return _started_by_ps(pid)
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in {"Z", "X"} else f"{boot}/{fields[_START_FIELD]}"


def send(pid: int, number: signal.Signals) -> bool:
    """Send a signal; False when the process is gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False


def ends(pid: int, within_s: float) -> bool:
    """Wait for the end of a process, also of one that is not our child; False when it takes longer."""
    if sys.platform != "linux":
        deadline_s = time.monotonic() + within_s
        while started(pid) is not None and time.monotonic() < deadline_s:
            time.sleep(_LOOK_INTERVAL_S)  # there is nothing to wait on there
        return started(pid) is None
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], within_s)[0])
    finally:
        os.close(descriptor)


def _started_by_ps(pid: int) -> str | None:
    answer = subprocess.run(  # noqa: S603  # a fixed program and a number
        ["/bin/ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return answer.stdout.strip() or None
