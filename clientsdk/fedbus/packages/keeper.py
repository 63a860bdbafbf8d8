"""Stands between the client and a package's processes, and ends all of them; run as a script of its own.

It is the reaper of whatever the package leaves behind (`PR_SET_CHILD_SUBREAPER`), so a process that began a
session of its own is still its descendant. It ends the whole tree when it is told to, when the client is gone
(its standard input ends), when a limit is passed, and when the command has ended. Standard library only.
"""

import contextlib
import ctypes
import json
import os
import resource
import selectors
import signal
import subprocess
import sys
import time
from typing import Any

LOOK_S = 0.1
"""How often memory and processes are looked at; the disk ten times less often."""
TAIL_BYTES = 16 * 1024
SWEEP_S = 10.0
SLACK_BYTES = 1024**3
"""What one process may map beyond the limit of all: a library maps more than it uses."""
PR_SET_CHILD_SUBREAPER = 36


class Tree:
    """The processes below one, as /proc knows them."""

    def __init__(self, root: int) -> None:
        self.root = root
        self.page = os.sysconf("SC_PAGE_SIZE")
        self.ticks = os.sysconf("SC_CLK_TCK")

    def below(self) -> list[int]:
        """Give all descendants."""
        children: dict[int, list[int]] = {}
        for name in os.listdir("/proc"):
            if name.isdigit():
                with contextlib.suppress(OSError, ValueError, IndexError):
                    with open(f"/proc/{name}/stat", "rb") as file:
                        after = file.read().rpartition(b")")[2].split()
                    if after[0] != b"Z":
                        children.setdefault(int(after[1]), []).append(int(name))
        found, todo = [], [self.root]
        while todo:
            inner = children.get(todo.pop(), [])
            found += inner
            todo += inner
        return found

    def memory(self, pids: list[int]) -> int:
        """Give the anonymous memory of these in bytes; what forks share counts for each of them."""
        total = 0
        for pid in pids:
            with contextlib.suppress(OSError, ValueError, IndexError):
                with open(f"/proc/{pid}/statm", "rb") as file:
                    fields = file.read().split()
                total += (int(fields[1]) - int(fields[2])) * self.page
        return total

    def own_memory(self, pids: list[int]) -> int:
        """Give their anonymous memory, counting once what a fork left shared. Slower than `memory`."""
        total = 0
        for pid in pids:
            with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup", "rb") as file:
                kib = [int(line.split()[1]) for line in file if line.startswith(b"Pss_Anon:")]
                total += sum(kib) * 1024
        return total

    def cpu_s(self) -> float:
        """Give how long these have computed, in seconds: those that are there, and those that were."""
        total = 0
        for pid in (self.root, *self.below()):
            with contextlib.suppress(OSError, ValueError, IndexError):
                with open(f"/proc/{pid}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
                own = 0 if pid == self.root else int(fields[11]) + int(fields[12])
                total += own + int(fields[13]) + int(fields[14])  # of children that have ended
        return total / self.ticks

    def sweep(self) -> int:
        """End all descendants: stop them first, so that none is born meanwhile. Give how many there were."""
        ended: set[int] = set()
        until = time.monotonic() + SWEEP_S
        while (pids := self.below()) and time.monotonic() < until:
            for pid in pids:
                _send(pid, signal.SIGSTOP)
            if set(self.below()) <= set(pids):
                for pid in pids:
                    _send(pid, signal.SIGKILL)
                ended |= set(pids)
            reap()
        # One whose other threads still end cannot be reaped yet, and must not be left to others.
        with contextlib.suppress(ChildProcessError):
            while time.monotonic() < until:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    time.sleep(LOOK_S / 20)
        return len(ended)


class Run:
    """One command with its limits."""

    def __init__(self, asked: dict[str, Any]) -> None:
        self.asked = asked
        self.tree = Tree(os.getpid())
        self.tails = {"stdout": b"", "stderr": b""}
        self.peak = {"memory": 0, "processes": 0}
        self.disk_at = 0.0
        self.child: int = 0
        self.status: int | None = None

    def start(self) -> subprocess.Popen[bytes]:
        """Begin."""
        process = subprocess.Popen(  # noqa: S603  # the package's own command, in its own session
            self.asked["command"],
            cwd=self.asked["folder"],
            env=self.asked["env"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            pass_fds=self.asked["passed"],
            preexec_fn=self.limit,  # safe: one thread only
        )
        for number in self.asked["passed"]:
            os.close(number)  # so that the other side sees when the command is gone
        self.child = process.pid
        return process

    def limit(self) -> None:
        """Set what the system itself can hold a process to."""
        memory, disk = self.asked["memory_bytes"] + SLACK_BYTES, self.asked["disk_bytes"]
        for kind, most in (
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_DATA, memory),
            (resource.RLIMIT_FSIZE, disk),
        ):
            hard = resource.getrlimit(kind)[1]
            most = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(kind, (most, most))

    def look(self) -> str:
        """Give which limit is passed, or nothing."""
        pids = self.tree.below()
        memory = self.tree.memory(pids)
        if memory > self.asked["memory_bytes"]:
            memory = self.tree.own_memory(pids)
        self.peak["memory"] = max(self.peak["memory"], memory)
        self.peak["processes"] = max(self.peak["processes"], len(pids))
        if len(pids) > self.asked["processes_max"]:
            return "processes"
        if memory > self.asked["memory_bytes"]:
            return "memory"
        if self.asked["cpu_s"] is not None and self.tree.cpu_s() > self.asked["cpu_s"]:
            return "cpu"
        if time.monotonic() >= self.disk_at:
            self.disk_at = time.monotonic() + 10 * LOOK_S
            used, files = disk(self.asked["watched"], self.asked["disk_files_max"])
            if used > self.asked["disk_bytes"] or files > self.asked["disk_files_max"]:
                return "disk"
        return ""

    def note(self) -> bool:
        """Reap; say whether the command has ended."""
        status = reap().get(self.child)
        if status is not None:
            self.status = status
        return self.status is not None


def main() -> None:
    """Read what to run from the first line of standard input; write one line about how it ended."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    run = Run(json.loads(sys.stdin.buffer.readline()))
    started = time.monotonic()
    try:
        process = run.start()
    except (OSError, subprocess.SubprocessError) as error:
        tell({"how": "start", "code": None, "stdout": "", "stderr": str(error), "seconds": 0.0})
        return
    how = watch(run, process, started + run.asked["timeout_s"])
    if how == "stopped" and run.status is None:
        ask_to_end(run, run.asked["grace_s"])
    seconds = time.monotonic() - started
    left = run.tree.sweep()
    run.note()
    for name, pipe in (("stdout", process.stdout), ("stderr", process.stderr)):
        assert pipe is not None
        os.set_blocking(pipe.fileno(), False)
        drain(run, name, pipe.fileno())
    code = None if run.status is None else os.waitstatus_to_exitcode(run.status)
    tails = {name: tail.decode("utf-8", "replace") for name, tail in run.tails.items()}
    tell({"how": how, "code": code, "seconds": seconds, "left": left, **tails, **run.peak})


def watch(run: Run, process: "subprocess.Popen[bytes]", until: float) -> str:
    """Wait for the end, and say what it was."""
    assert process.stdout is not None
    assert process.stderr is not None
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ, "stop")
    for name, pipe in (("stdout", process.stdout), ("stderr", process.stderr)):
        os.set_blocking(pipe.fileno(), False)
        selector.register(pipe.fileno(), selectors.EVENT_READ, name)
    look_at = 0.0
    while True:
        if run.note():
            return "exited"
        if time.monotonic() >= until:
            return "timeout"
        if time.monotonic() >= look_at:
            passed = run.look()
            if passed:
                return passed
            look_at = time.monotonic() + LOOK_S
        for key, _ in selector.select(LOOK_S):
            if key.data == "stop":
                return "stopped"
            if not drain(run, key.data, key.fd):
                selector.unregister(key.fd)


def ask_to_end(run: Run, grace_s: float) -> None:
    """Let the command end by itself for a while."""
    with contextlib.suppress(OSError):
        os.killpg(run.child, signal.SIGTERM)
    until = time.monotonic() + grace_s
    while not run.note() and time.monotonic() < until:
        time.sleep(LOOK_S / 10)


def drain(run: Run, name: str, pipe: int) -> bool:
    """Keep the end of what is in a pipe; False when nothing more will come."""
    try:
        data = os.read(pipe, 64 * 1024)
    except BlockingIOError:
        return True
    run.tails[name] = (run.tails[name] + data)[-TAIL_BYTES:]
    return bool(data)


def reap() -> dict[int, int]:
    """Take the status of all that have ended."""
    found: dict[int, int] = {}
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            found[ended[0]] = ended[1]
    return found


def disk(folders: list[str], files_max: int) -> tuple[int, int]:
    """Give the bytes on the disk and the files of these folders; stops counting above `files_max`."""
    used, files, todo = 0, 0, list(folders)
    while todo and files <= files_max:
        with contextlib.suppress(OSError), os.scandir(todo.pop()) as entries:
            for entry in entries:
                files += 1
                with contextlib.suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(entry.path)
                    else:
                        used += entry.stat(follow_symlinks=False).st_blocks * 512
    return used, files


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, number)


def tell(report: dict[str, Any]) -> None:
    """Write the report and go."""
    sys.stdout.write(json.dumps(report) + "\n")
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
