"""One site of the demo, in a process of its own: `python site.py CREDENTIALS DATA`. All that a user writes."""

import sys
from pathlib import Path

import digits
import fedbus

data, test = digits.read(Path(sys.argv[2]))


def train(
    model: fedbus.Model, settings: fedbus.Settings
) -> tuple[fedbus.Model, int, dict[str, float]]:
    """Train on this site's own images."""
    new, loss = digits.fit(model, data, settings["epochs"], settings["rate"], settings.seed)
    return new, len(data), {"loss": loss}


def validate(model: fedbus.Model, settings: fedbus.Settings) -> tuple[int, dict[str, float]]:
    """Measure a model on the test images."""
    return len(test), {"accuracy": digits.accuracy(model, test)}


fedbus.run(train=train, validate=validate, credentials=sys.argv[1])
