"""What you write: a `train` function, perhaps a `validate` function, and what they are given."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, TypeAlias

from numpy.typing import ArrayLike, NDArray

from fedbus.consent.policy import Limits
from fedbus.errors import BadOption
from fedbus.recorder import Recorder

# `Any` here and below is for you: what a model holds and what a session sets, your code knows.
Model: TypeAlias = dict[str, NDArray[Any]]
"""A model: arrays by name. They are yours: write into them as you like."""


@dataclass(frozen=True, slots=True, eq=False)
class Settings(Mapping[str, Any]):
    """What the session asks of your function: a read-only mapping with a few facts beside it.

    The mapping holds the session's own `train` settings, for example a learning rate:

    ```python
    import fedbus

    settings = fedbus.Settings({"lr": 0.1}, seed=7, round=3)
    assert settings["lr"] == 0.1
    assert settings.get("epochs", 1) == 1
    assert settings.seed == 7
    assert not settings.cancelled()
    ```

    `seed` is this client's own for this round: a trainer that uses it for every random choice can be
    repeated. `deadline` is the server's clock and only for information; ask `cancelled()` instead.
    """

    entries: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    round: int = 1
    session: str = "local"
    attempt: int = 1
    model: str = ""
    """The SHA-256 of the model that is given."""
    deadline: datetime | None = None
    cancelled: Callable[[], bool] = lambda: False
    """Whether the task was withdrawn. Ask now and then in a long loop and return when it is True:
    whatever you return then is thrown away."""
    client: Recorder = field(default_factory=Recorder, repr=False)
    """The client that runs your function, to log with: `settings.client.log_metric({"loss": 0.5})`."""
    command: str = ""
    """The id of the command that the function runs for; empty in a round."""
    progress: Callable[[float, str], None] = lambda _fraction, _text: None
    """Tell how far a command is: from 0 to 1, and a line for people. Lossy; from any thread."""

    def __getitem__(self, name: str) -> Any:
        return self.entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __repr__(self) -> str:
        return f"Settings({dict(self.entries)}, session={self.session!r}, round={self.round}, seed={self.seed})"


TrainFunction: TypeAlias = Callable[
    [Model, Settings], tuple[Mapping[str, ArrayLike], int, Mapping[str, float]]
]
"""`train(model, settings) -> (model, number of examples, metrics)`.

Return all tensors of the model under their names and with their shapes. Arrays, numbers, lists and
whatever else numpy can turn into an array are taken. Floating types are cast to the model's own;
whole numbers must stay whole. The number of examples is the update's weight.
"""

ValidateFunction: TypeAlias = Callable[[Model, Settings], tuple[int, Mapping[str, float]]]
"""`validate(model, settings) -> (number of examples, metrics)`."""


CommandFunction: TypeAlias = Callable[[Model | None, Settings], Any]
"""`function(model, settings) -> result` for a command: an inference, a staging, or one of your own.

`model` is None if the command names none. `settings` holds the command's parameters; the result is
whatever JSON can hold. A client that is killed gets the command again, so it may run a second time;
`settings.command` names it.
"""


@dataclass(frozen=True, slots=True)
class Trainer:
    """The functions of one client.

    `train` and `validate` run in one thread of their own, one call at a time. What commands ask for runs
    beside them, in one thread for each kind of task: `predict` answers inferences, `stage` is called when
    a model was put into the cache, and `commands` holds functions of your own by name.
    """

    train: TrainFunction
    validate: ValidateFunction | None = None
    predict: CommandFunction | None = None
    stage: CommandFunction | None = None
    commands: Mapping[str, CommandFunction] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not callable(self.train):
            raise BadOption("train must be a function: train(model, settings)")
        if self.validate is not None and not callable(self.validate):
            raise BadOption("validate must be a function: validate(model, settings)")


class Packages(Protocol):
    """Gives each session's trainer from the compute package that it pins. All methods block.

    `fedbus.packages.host.PackageHost` is the real one.
    """

    @property
    def is_local(self) -> bool:
        """Whether a folder of this machine runs, whatever a session pins."""

    def begin(
        self, name: str, device: str, recorder: Recorder, limits: Callable[[], Limits]
    ) -> None:
        """Say which client the packages work for, within which limits of its owner's. The first call."""

    def end(self) -> None:
        """End what the packages still run. The last call."""

    def has(self, digest: str) -> bool:
        """Whether the package is here, so that its archive need not be fetched."""

    def trainer(
        self, digest: str, archive: bytes | bytearray | None, cancelled: Callable[[], bool]
    ) -> Trainer:
        """Give a package's functions. Raises `BadPackage` and `PackageFailed`."""

    def restart(
        self, digest: str, archive: bytes | bytearray | None, cancelled: Callable[[], bool]
    ) -> None:
        """Start a package anew. Raises as `trainer` does; then the one that ran goes on."""

    @property
    def latest(self) -> tuple[str, Trainer] | None:
        """The package used last (none = a local folder) and its functions, which answer commands."""
