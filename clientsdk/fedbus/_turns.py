"""Turns at computing: several clients on one host run their functions one at a time.

The lock is a file that the kernel frees when its holder ends, however it ends. There are two: whoever wants a
turn takes the place in front of the door first and waits there for the room; so one who has just left the
room cannot be in it again before the one who waited. Waiting is a blocking call in a thread: nothing is polled.
"""

import asyncio
import logging
import os
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Protocol, TypeVar

from fedbus import _threads
from fedbus.errors import BadOption

try:
    import fcntl
except ImportError:  # not on every system; then only "off" is possible
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger("fedbus")

OFF, HOST = "off", "host"
DOOR, ROOM = "door.lock", "room.lock"
HOLDER_BYTES_MAX = 256


T = TypeVar("T")


class Withdrawable(Protocol):
    """A task that may be withdrawn."""

    async def unless_said(self, work: Awaitable[T]) -> T | None:
        """Wait for `work`, but no longer than until the task is withdrawn; None then."""


class Turns:
    """One client's turns. `folder` is shared by the clients that take turns; None = no turns, no waiting."""

    def __init__(self, folder: Path | None, name: str) -> None:
        """Make the folder. Raises `BadOption`."""
        self._folder = folder
        self._name = name
        if folder is None:
            return
        if fcntl is None:
            raise BadOption("this system has no file locks for compute_lock; leave it off")
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for lock in (DOOR, ROOM):
                os.close(_open(folder / lock))
        except OSError as error:
            raise BadOption(f"compute_lock {folder} cannot be used: {error}") from error

    @asynccontextmanager
    async def turn(self, withdrawal: Withdrawable) -> AsyncIterator[bool]:
        """Wait for a turn and keep it; False, and no turn, when the task was withdrawn meanwhile."""
        if self._folder is None:
            yield True
            return
        waiting = _Waiting(self._folder, self._name)
        try:
            yield await withdrawal.unless_said(waiting.come_in()) is not None
        finally:
            waiting.leave()


class _Waiting:
    """One wish for a turn, which may be given up while a thread waits for it."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._changing = threading.Lock()
        self._room: int | None = None
        self._gone = False

    async def come_in(self) -> bool:
        """Wait, in a thread, until the room is ours."""
        started = asyncio.get_running_loop().time()
        await _threads.run(self._come_in, "fedbus-turn")
        waited = asyncio.get_running_loop().time() - started
        if waited > 1.0:
            log.info("%s: has its turn to compute after %.1f s", self._name, waited)
        return True

    def leave(self) -> None:
        """Let the next one in; if the thread still waits, it will do that at once."""
        with self._changing:
            self._gone = True
            if self._room is not None:
                os.close(self._room)
                self._room = None

    def _come_in(self) -> None:
        door = _open(self._folder / DOOR)
        try:
            fcntl.flock(door, fcntl.LOCK_EX)
            if self._gone:
                return
            room = _open(self._folder / ROOM)
            try:
                fcntl.flock(room, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.info("%s: waits for its turn to compute, after %s", self._name, _holder(room))
                fcntl.flock(room, fcntl.LOCK_EX)
        finally:
            os.close(door)
        with self._changing:
            if self._gone:
                os.close(room)
                return
            self._room = room
        _sign(room, f"{self._name} (process {os.getpid()}, since {time.strftime('%H:%M:%S')})")


def folder_of(option: str | Path) -> Path | None:
    """Give the folder that `compute_lock` means."""
    if option == OFF:
        return None
    if option == HOST:
        user = os.geteuid() if hasattr(os, "geteuid") else "user"
        return Path(tempfile.gettempdir()) / f"fedbus-compute-{user}"
    return Path(option)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _holder(room: int) -> str:
    said = os.pread(room, HOLDER_BYTES_MAX, 0).decode(errors="replace").strip()
    return said or "another client"


def _sign(room: int, text: str) -> None:
    with suppress(OSError):  # only for those who wait; a turn does not fail for it
        os.ftruncate(room, 0)
        os.pwrite(room, text.encode()[:HOLDER_BYTES_MAX], 0)
