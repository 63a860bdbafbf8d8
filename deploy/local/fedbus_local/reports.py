"""What the supervisor tells about the stack; `fedbus status -o json` prints a `StackReport`."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class State(StrEnum):
    """How a process is. `unhealthy`: it runs but its health says no. `stopped`: held down on request."""

    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    RESTARTING = "restarting"
    FAILED = "failed"
    STOPPED = "stopped"


class ProcessReport(BaseModel):
    """One process. `reason` says what is wrong, or how its last life ended."""

    model_config = ConfigDict(frozen=True)

    name: str
    role: str
    pid: int | None
    state: State
    uptime_s: float
    restarts: int
    port: int
    reason: str | None = None


class StackReport(BaseModel):
    """The whole stack."""

    model_config = ConfigDict(frozen=True)

    directory: str
    pid: int
    api_url: str | None
    nats_url: str
    s3_url: str
    disk_free_bytes: int
    warnings: tuple[str, ...] = ()
    expected: int
    processes: tuple[ProcessReport, ...]

    @property
    def healthy(self) -> bool:
        """Whether every process that should be there is, and is healthy."""
        there = len(self.processes) >= self.expected
        return there and all(each.state is State.HEALTHY for each in self.processes)
