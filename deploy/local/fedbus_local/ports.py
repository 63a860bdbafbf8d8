"""Ports: choosing free ones, and telling whether one is free.

Ports are remembered, so they come from below the range that systems hand to outgoing connections:
otherwise a connection could sit on a remembered port while the stack is down.
"""

import ipaddress
import random
import socket
from collections.abc import Callable, Collection

LOOPBACK = "127.0.0.1"
FIRST = 20_000
LAST = 32_000
TRIES_MAX = 500

_chance = random.SystemRandom()


class NoFreePort(RuntimeError):
    """Not one of many ports that were tried is free."""


def is_free(host: str, port: int) -> bool:
    """Say whether we could listen there; a connection that is only winding down does not count."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def choose(
    host: str,
    taken: Collection[int],
    preferred: int | None = None,
    free: Callable[[str, int], bool] = is_free,
) -> int:
    """Give a free port that is not in `taken`; the preferred one if that is possible."""
    if preferred is not None and preferred not in taken and free(host, preferred):
        return preferred
    for _ in range(TRIES_MAX):
        port = _chance.randrange(FIRST, LAST)
        if port not in taken and free(host, port):
            return port
    raise NoFreePort(f"no free port between {FIRST} and {LAST} on {host}")


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach a listener on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_every_address(host: str) -> bool:
    """Say whether a listener on `host` listens on all addresses of the machine."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def reachable_from_here(host: str) -> str:
    """Give the address by which this machine's own processes reach a listener on `host`."""
    return LOOPBACK if is_every_address(host) else host


def outward_address() -> str:
    """Guess the address of this machine that others can reach. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # reserved for documentation; only chooses a route
            address: str = probe.getsockname()[0]
        except OSError:
            return socket.gethostname()
    return address
