"""How a client behaves. Every limit has a name here."""

from dataclasses import dataclass, field
from pathlib import Path

from fedbus_schemas.asks import PENDING_MAX
from fedbus_schemas.credentials import Credentials

from fedbus.errors import BadOption


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of a `Client`. Only `credentials` has no default.

    ```python
    from fedbus import Options

    options = Options(credentials="client.json", state_dir="state", ask_timeout_s=10)
    assert options.kept_updates_max == 8
    ```
    """

    # Who I am, and what survives a restart.
    credentials: str | Path | Credentials = field(repr=False)
    """The credentials file, or its content."""
    state_dir: str | Path | None = None
    """Where finished updates wait for their receipt. None: in memory, and a restart trains again.
    Several clients may share a folder."""
    cache_dir: str | Path | None = None
    """Where fetched models are kept by their SHA-256. None: only the last one, in memory."""
    alive_file: str | Path | None = None
    """A file that is touched each time the servers answer a heartbeat, every ten seconds."""

    policy: str | Path | None = None
    """The data owner's policy file (docs/consent.md). None: every task of the project is done."""

    compute_lock: str | Path = "off"
    """Whether clients on one host run their functions one at a time: `off`, `host` (with all others of this
    user that say so), or a folder (with all others that name it)."""

    # How much.
    kept_updates_max: int = 8
    """Updates that may wait for a receipt; with more, the next training waits."""
    cached_models_max: int = 4
    """Models in `cache_dir`; the one used longest ago goes first."""
    cache_bytes_max: int = 4 * 1024**3
    """Bytes of the models in `cache_dir`. One unfinished download may lie there besides."""
    task_log_bytes_max: int = 4 * 1024**2
    """Bytes of one file of the task log, which lies in `state_dir`."""
    task_log_files_max: int = 5
    """Files of the task log; the oldest goes first."""
    model_bytes_max: int = 8 * 1024**3
    """A task with a larger model is not taken."""

    outbox_records_max: int = 100_000
    """Records (metrics, attributes, telemetry, results, events) that may wait to be sent, in `state_dir`
    or in memory. Of more, the oldest of the lowest priority class is dropped, and counted."""
    outbox_bytes_max: int = 256 * 1024**2
    """Bytes of such records."""

    # How long.
    ask_timeout_s: float = 5.0
    """How long one request waits at most for its answer before it is sent again. The first wait is
    one second, and it doubles."""
    connect_timeout_s: int = 5
    """How long to wait for a connection to the bus, in whole seconds."""
    store_timeout_s: float = 30.0
    """How long the object store may be silent in a transfer."""
    patience_s: float = 60.0
    """How long, at least, a transfer or report is tried again without getting on; a task's deadline may
    add to it."""
    backoff_min_s: float = 0.1
    """The first pause before something is tried again; it doubles, with jitter."""
    backoff_max_s: float = 10.0
    """The longest such pause."""
    host_telemetry_s: float | None = None
    """How often to log how busy this machine is, as telemetry `host` (Linux). None: never."""
    resync_s: float = 300.0
    """How often to ask for the open tasks although nothing was missed as far as we know."""

    def __post_init__(self) -> None:
        if not isinstance(self.credentials, str | Path | Credentials):
            raise BadOption("credentials must be the path of a credentials file")
        for name in ("state_dir", "cache_dir", "alive_file", "policy"):
            place: object = getattr(self, name)
            if place is not None and not isinstance(place, str | Path):
                raise BadOption(f"{name} must be a path, or None")
        if not isinstance(self.compute_lock, str | Path) or not str(self.compute_lock):
            raise BadOption("compute_lock must be off, host, or the path of a folder")
        _between("kept_updates_max", self.kept_updates_max, 1, PENDING_MAX)
        _between("cached_models_max", self.cached_models_max, 1, 1000)
        _between("cache_bytes_max", self.cache_bytes_max, 0, 2**50)
        _between("outbox_records_max", self.outbox_records_max, 1, 10_000_000)
        _between("outbox_bytes_max", self.outbox_bytes_max, 1024**2, 2**50)
        if self.host_telemetry_s is not None:
            _between("host_telemetry_s", self.host_telemetry_s, 1, 86_400)
        _between("task_log_bytes_max", self.task_log_bytes_max, 64 * 1024, 2**40)
        _between("task_log_files_max", self.task_log_files_max, 1, 1000)
        _between("model_bytes_max", self.model_bytes_max, 1, 2**50)
        for name in ("ask_timeout_s", "connect_timeout_s", "store_timeout_s", "resync_s"):
            _between(name, getattr(self, name), 0.05, 86_400)
        _between("patience_s", self.patience_s, 1, 86_400)
        _between("backoff_min_s", self.backoff_min_s, 0.001, 3600)
        _between("backoff_max_s", self.backoff_max_s, self.backoff_min_s, 3600)


def _between(name: str, value: float, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise BadOption(f"{name} must be a number from {low:g} to {high:g}, not {value!r}")
