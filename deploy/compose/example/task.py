"""What the example sites train: a linear model on data that each makes up for itself, numpy alone."""

import time
import zlib
from collections.abc import Mapping

import fedbus
import numpy as np
from numpy.typing import NDArray

FEATURES = 20
EXAMPLES = 500
TRUTH = np.random.default_rng(1).normal(size=FEATURES).astype(np.float32)

Data = tuple[NDArray[np.float32], NDArray[np.float32]]


def new_model() -> dict[str, NDArray[np.float32]]:
    """Give the model that a session begins with."""
    return {"weights": np.zeros(FEATURES, np.float32), "bias": np.zeros(1, np.float32)}


def data_of(site: str) -> Data:
    """Make a site's examples: the same at every start, others at every site."""
    chance = np.random.default_rng(zlib.crc32(site.encode()))
    inputs = chance.normal(size=(EXAMPLES, FEATURES)).astype(np.float32)
    noise = chance.normal(scale=0.1, size=EXAMPLES).astype(np.float32)
    return inputs, inputs @ TRUTH + 0.5 + noise


def loss(model: Mapping[str, NDArray[np.float32]], data: Data) -> float:
    """Give the mean squared error."""
    inputs, wanted = data
    return float(np.mean((inputs @ model["weights"] + model["bias"] - wanted) ** 2))


def trainer(site: str) -> fedbus.Trainer:
    """Give a site's two functions."""
    inputs, wanted = data = data_of(site)

    def train(
        model: fedbus.Model, settings: fedbus.Settings
    ) -> tuple[fedbus.Model, int, dict[str, float]]:
        rate = np.float32(settings.get("rate", 0.1))
        time.sleep(float(settings.get("pause_s", 0)))  # stands for a training that takes its time
        for _ in range(int(settings.get("epochs", 5))):
            error = inputs @ model["weights"] + model["bias"] - wanted
            model["weights"] -= rate * (inputs.T @ error) / len(wanted)
            model["bias"] -= rate * error.mean()
        return model, len(wanted), {"loss": loss(model, data)}

    def validate(model: fedbus.Model, settings: fedbus.Settings) -> tuple[int, dict[str, float]]:
        return len(wanted), {"loss": loss(model, data)}

    return fedbus.Trainer(train, validate)
