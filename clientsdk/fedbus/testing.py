"""Try a trainer without servers."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fedbus import _tensorfile, _updates
from fedbus.trainer import Model, Settings, Trainer, TrainFunction

WEIGHT_MAX = 2**20
"""The most examples that a session takes unless it was set up for more."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What the servers would have got from one round."""

    model: Model
    weight: int
    metrics: Mapping[str, float]
    file: bytes
    """The update as it would be sent."""


def run_once(
    trainer: Trainer | TrainFunction,
    model: Mapping[str, ArrayLike],
    settings: Mapping[str, bool | int | float | str] | Settings | None = None,
) -> Tried:
    """Run one round's training as a client would, with the same checks, and give what would be sent.

    ```python
    import numpy as np
    from fedbus.testing import run_once


    def train(model, settings):
        model["w"] += settings["lr"]
        return model, 5, {"loss": 0.25}


    tried = run_once(train, {"w": np.zeros(3, np.float32)}, {"lr": 0.5})
    assert tried.model["w"].tolist() == [0.5, 0.5, 0.5]
    assert tried.weight == 5
    ```

    Raises `BadResult` when the result cannot be sent. What the function raises comes through.
    """
    function = trainer.train if isinstance(trainer, Trainer) else trainer
    given = settings if isinstance(settings, Settings) else Settings(dict(settings or {}))
    data = _tensorfile.write({name: np.asarray(tensor) for name, tensor in model.items()})
    result = function(_tensorfile.read(data), given)
    trained = _updates.check_trained(result, _tensorfile.kinds(data), WEIGHT_MAX)
    file = trained.result.joined()
    return Tried(_tensorfile.read(file), trained.weight, trained.metrics, file)
