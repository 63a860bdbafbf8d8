"""The thin fedbus client: train on your own data, send only the update.

```python
import fedbus


def train(model, settings):
    model["w"] += 1.0
    return model, 100, {"loss": 0.5}


def main():
    fedbus.run(train=train, credentials="client.json")
```

Importing this package loads nothing else; numpy, pydantic, nats and the signing library are loaded when
a name of it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from fedbus._version import __version__

if TYPE_CHECKING:
    from fedbus_schemas.credentials import Credentials

    from fedbus.client import Client, run
    from fedbus.errors import (
        Away,
        BadCredentials,
        BadModel,
        BadOption,
        BadPackage,
        BadPolicy,
        BadRecord,
        BadResult,
        BusAway,
        ClientUnknown,
        ConfigurationError,
        FedbusError,
        KeyChanged,
        NotPermitted,
        PackageFailed,
        Refused,
        StoreAway,
        TaskAborted,
    )
    from fedbus.options import Options
    from fedbus.priorities import PriorityClass
    from fedbus.recorder import Recorder
    from fedbus.trainer import (
        CommandFunction,
        Model,
        Settings,
        Trainer,
        TrainFunction,
        ValidateFunction,
    )

__all__ = [
    "Away",
    "BadCredentials",
    "BadModel",
    "BadOption",
    "BadPackage",
    "BadPolicy",
    "BadRecord",
    "BadResult",
    "BusAway",
    "Client",
    "ClientUnknown",
    "CommandFunction",
    "ConfigurationError",
    "Credentials",
    "FedbusError",
    "KeyChanged",
    "Model",
    "NotPermitted",
    "Options",
    "PackageFailed",
    "PriorityClass",
    "Recorder",
    "Refused",
    "Settings",
    "StoreAway",
    "TaskAborted",
    "TrainFunction",
    "Trainer",
    "ValidateFunction",
    "__version__",
    "run",
]

_HOMES = {
    "fedbus.client": ("Client", "run"),
    "fedbus.options": ("Options",),
    "fedbus.priorities": ("PriorityClass",),
    "fedbus.recorder": ("Recorder",),
    "fedbus.trainer": (
        "CommandFunction",
        "Model",
        "Settings",
        "TrainFunction",
        "Trainer",
        "ValidateFunction",
    ),
    "fedbus_schemas.credentials": ("Credentials",),
}


def __getattr__(name: str) -> object:
    """Load a public name when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module 'fedbus' has no attribute {name!r}")
    home = next((home for home, names in _HOMES.items() if name in names), "fedbus.errors")
    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, also those not loaded yet."""
    return sorted({*globals(), *__all__})
