"""Tells systemd how the service is: ready, alive, stopping. Elsewhere it tells nobody.

Being alive is the event loop's own matter: a gateway that is offline for days is well.
"""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fedbus.client import Client

log = logging.getLogger("fedbus")

SOCKET, WATCHDOG = "NOTIFY_SOCKET", "WATCHDOG_USEC"


def tell(*lines: str) -> bool:
    """Send a notification; False where nobody wants one. Errors are logged: they are no reason to stop."""
    address = os.environ.get(SOCKET, "")
    if not address.startswith(("/", "@")):
        return False
    name = "\0" + address[1:] if address.startswith("@") else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
            to.sendto("\n".join(lines).encode(), name)
    except OSError as error:
        log.warning("systemd cannot be told %s: %s", lines[0], error)
    return True


def watchdog_s() -> float | None:
    """How often systemd wants a sign of life, in seconds; None = it does not."""
    text = os.environ.get(WATCHDOG, "")
    return int(text) / 1e6 if text.isdigit() and int(text) else None


@asynccontextmanager
async def telling(client: Client) -> AsyncIterator[None]:
    """Tell systemd that a client runs, that it lives, and that it stops."""
    async with asyncio.TaskGroup() as group:
        tell("READY=1", "STATUS=started")
        every_s = watchdog_s()
        signs = None if every_s is None else group.create_task(_signs(client, every_s / 2))
        try:
            yield
        finally:
            tell("STOPPING=1")
            if signs is not None:
                signs.cancel()


async def _signs(client: Client, every_s: float) -> None:
    while True:
        tell("WATCHDOG=1", f"STATUS=link {client.link_quality.value}")
        await asyncio.sleep(every_s)
