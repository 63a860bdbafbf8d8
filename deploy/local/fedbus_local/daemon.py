"""The supervisor's process, one a data directory: `python -m fedbus_local.daemon`, or in the foreground."""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress

from fedbus_local import pids, plan
from fedbus_local.errors import BadDirectory, LocalError
from fedbus_local.journal import Entry, Journal
from fedbus_local.layout import Layout, locked
from fedbus_local.leash import tie_to
from fedbus_local.supervisor import Supervisor

LOCK = "supervisor.lock"
NAME = "supervisor"


def main() -> int:
    """Run the supervisor of the directory that is named."""
    parser = argparse.ArgumentParser(prog="fedbus_local.daemon", description=__doc__)
    parser.add_argument("directory")
    parser.add_argument(
        "--ready", type=int, help="write to this descriptor when the stack can be asked"
    )
    parser.add_argument("--tied", type=int, help="die with this parent process")
    arguments = parser.parse_args()
    if arguments.tied is not None:
        tie_to(arguments.tied)()

    def ready() -> None:
        if arguments.ready is not None:
            os.write(arguments.ready, b"ready\n")
            os.close(arguments.ready)

    try:
        run(Layout.at(arguments.directory), ready=ready)
    except LocalError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def run(
    layout: Layout, *, ready: Callable[[], None], echo: Callable[[Entry], None] | None = None
) -> None:
    """Run the stack until a signal or `stop`. `echo` gets every log entry."""
    stack = plan.load(layout)
    if stack is None:
        raise BadDirectory(f"there is no {layout.plan}; start with: fedbus up")
    os.umask(0o077)
    try:
        with locked(layout.run / LOCK, wait=False):
            _supervise(layout, stack, ready, echo)
    except BlockingIOError as error:
        raise LocalError(f"another supervisor runs in {layout.root}") from error


def end_leftovers(layout: Layout) -> Iterator[tuple[str, int]]:
    """Kill what an earlier supervisor left; only processes that really are the ones it started."""
    for path in sorted(layout.run.glob("*.pid")):
        pid = pids.alive(path)
        if pid is not None and pid != os.getpid():
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            pids.send(pid, signal.SIGKILL)
            yield path.stem, pid
        if pid != os.getpid():
            path.unlink(missing_ok=True)


def _supervise(
    layout: Layout,
    stack: plan.Plan,
    ready: Callable[[], None],
    echo: Callable[[Entry], None] | None,
) -> None:
    journal = Journal(layout.logs)
    leftovers = list(end_leftovers(layout))
    pids.write(layout.pid_file(NAME), os.getpid())
    for name, pid in leftovers:
        journal.note(f"ended {name} (pid {pid}), which an earlier supervisor had left behind")
    try:
        asyncio.run(_run(layout, stack, journal, ready, echo))
    finally:
        layout.pid_file(NAME).unlink(missing_ok=True)
        journal.close()


async def _run(
    layout: Layout,
    stack: plan.Plan,
    journal: Journal,
    ready: Callable[[], None],
    echo: Callable[[Entry], None] | None,
) -> None:
    supervisor = Supervisor(layout, stack, journal, os.getpid())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, supervisor.ask_to_stop)
    async with asyncio.TaskGroup() as tasks:
        echoing = tasks.create_task(_echo(journal, echo)) if echo is not None else None
        journal.note(f"supervisor {os.getpid()} starts in {layout.root}")
        await supervisor.run(ready)
        journal.note("everything is stopped")
        if echoing is not None:
            echoing.cancel()


async def _echo(journal: Journal, echo: Callable[[Entry], None]) -> None:
    with journal.feed.listen() as entries:
        while True:
            echo(await entries.get())


if __name__ == "__main__":
    sys.exit(main())
