"""The thin fedbus client: train on your own data, send only the update.

```python
import fedbus


def train(model, settings):
    model["w"] += 1.0
    return model, 100, {"loss": 0.5}


def main():
    fedbus.run(train=train, credentials="client.json")
```
"""

from fedbus_schemas.credentials import Credentials

from fedbus._version import __version__
from fedbus.client import Client, run
from fedbus.credentials import load
from fedbus.errors import (
    Away,
    BadCredentials,
    BadModel,
    BadOption,
    BadResult,
    BusAway,
    ClientUnknown,
    ConfigurationError,
    FedbusError,
    KeyChanged,
    NotPermitted,
    Refused,
    StoreAway,
)
from fedbus.options import Options
from fedbus.trainer import Model, Settings, Trainer, TrainFunction, ValidateFunction

__all__ = [
    "Away",
    "BadCredentials",
    "BadModel",
    "BadOption",
    "BadResult",
    "BusAway",
    "Client",
    "ClientUnknown",
    "ConfigurationError",
    "Credentials",
    "FedbusError",
    "KeyChanged",
    "Model",
    "NotPermitted",
    "Options",
    "Refused",
    "Settings",
    "StoreAway",
    "TrainFunction",
    "Trainer",
    "ValidateFunction",
    "__version__",
    "load",
    "run",
]
