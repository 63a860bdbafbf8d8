"""The example's sites, one thread each, in one container. A real site runs one client with its own data.

`sites.py --healthy` ends with 0 while they run: the container's health check.
"""

import asyncio
import signal
import sys
import time
from pathlib import Path

import fedbus
import task

CREDENTIALS = Path("/run/fedbus")
STATE = Path("/var/lib/fedbus")


async def main(clients: list[fedbus.Client]) -> None:
    """Run the clients until SIGTERM."""
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, lambda: [c.stop() for c in clients])
    async with asyncio.TaskGroup() as group:
        for each in clients:
            group.create_task(each.run())


def client(file: Path) -> fedbus.Client:
    """Make one site's client."""
    options = fedbus.Options(credentials=file, state_dir=STATE / file.stem, alive_file=alive(file))
    return fedbus.Client(task.trainer(file.stem), options)


def alive(file: Path) -> Path:
    """Say which file is touched at a client's heartbeats."""
    return STATE / f"{file.stem}.alive"


def healthy() -> bool:
    """Whether every site's heartbeat was answered within the last minute."""
    oldest = time.time() - 60
    files = [alive(file) for file in CREDENTIALS.glob("*.json")]
    return all(file.exists() and file.stat().st_mtime > oldest for file in files)


if __name__ == "__main__":
    if sys.argv[1:] == ["--healthy"]:
        sys.exit(0 if healthy() else 1)
    asyncio.run(main([client(file) for file in sorted(CREDENTIALS.glob("*.json"))]))
