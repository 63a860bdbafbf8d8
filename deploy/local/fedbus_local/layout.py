"""Where everything lies in the one data directory, and how files of ours are written.

Everything is readable by its owner only: directories 0700, files 0600. Files are replaced as a whole.
"""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fedbus_local.errors import BadDirectory

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
MARK = "stack.json"


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths below a data directory."""

    root: Path

    @classmethod
    def at(cls, directory: Path | str) -> "Layout":
        """Take a directory as the user named it."""
        return cls(Path(directory).expanduser().resolve())

    @property
    def plan(self) -> Path:
        """Hosts, ports and counts that are remembered."""
        return self.root / MARK

    @property
    def keys(self) -> Path:
        """Secrets, one a file."""
        return self.root / "keys"

    @property
    def config(self) -> Path:
        """What the servers are started with; written again at every start."""
        return self.root / "config"

    @property
    def run(self) -> Path:
        """Locks, pid files and the control socket of the running stack."""
        return self.root / "run"

    @property
    def logs(self) -> Path:
        """The interleaved log and its older parts."""
        return self.root / "logs"

    @property
    def clients(self) -> Path:
        """Credentials files of clients that were added without naming a place."""
        return self.root / "clients"

    @property
    def trust(self) -> Path:
        """The public keys that sign mail and heads."""
        return self.root / "trust.json"

    @property
    def api(self) -> Path:
        """Where the api listens and its token lies: for commands that are given no address."""
        return self.root / "api.json"

    @property
    def client_list(self) -> Path:
        """Which clients may join."""
        return self.root / "clients.json"

    def store(self, server: str) -> Path:
        """Where a server keeps its data: nats, redis or s3."""
        return self.root / server

    def pid_file(self, name: str) -> Path:
        """Where a process's pid and start time lie."""
        return self.run / f"{name}.pid"

    def make(self) -> None:
        """Make the directories. Raises `BadDirectory` when the place is not ours to use."""
        stores = [self.store(server) for server in ("nats", "redis", "s3")]
        folders = (self.keys, self.config, self.run, self.logs, self.clients, *stores)
        ours = {each.name for each in folders}
        there = {each.name for each in self.root.iterdir()} if self.root.is_dir() else set()
        if not self.plan.exists() and there - ours:
            raise BadDirectory(
                f"{self.root} is not empty and was not made by fedbus; name another with --dir"
            )
        try:
            for each in (self.root, *folders):
                each.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
                each.chmod(DIRECTORY_MODE)
        except OSError as error:
            raise BadDirectory(f"cannot use {self.root} for data: {error.strerror}") from error


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step; only its owner can read it."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), FILE_MODE)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock that goes with this process, however it ends. Raises `BlockingIOError` without `wait`."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, FILE_MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
