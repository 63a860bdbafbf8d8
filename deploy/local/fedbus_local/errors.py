"""What can go wrong with the local stack, each with its own exit code.

LocalError (1)
├── NotRunning (3)
├── PortTaken (4)
├── DiskFull (5)
├── StartFailed (6)
└── BadDirectory (7)
"""

from pathlib import Path


class LocalError(Exception):
    """The root. The message says what happened and what to do; `exit_code` is what a command ends with."""

    exit_code = 1


class NotRunning(LocalError):
    """No supervisor runs for this data directory."""

    exit_code = 3

    def __init__(self, directory: Path) -> None:
        super().__init__(f"no stack is running in {directory}; start it with: fedbus up")
        self.directory = directory


class PortTaken(LocalError):
    """A port that we were given, or that we remember, belongs to somebody else."""

    exit_code = 4

    def __init__(self, port: int, flag: str) -> None:
        super().__init__(
            f"port {port} is in use by another program; stop that, or choose another port with {flag} PORT"
        )
        self.port = port
        self.flag = flag


class DiskFull(LocalError):
    """Too little space is left to start, or a store said that there is none."""

    exit_code = 5


class StartFailed(LocalError):
    """The stack, or one of its processes, did not become healthy."""

    exit_code = 6


class BadDirectory(LocalError):
    """The data directory or the installation cannot be used."""

    exit_code = 7
