"""One site of the demo, in a process of its own: `python site.py CREDENTIALS SITE`. All a user writes."""

import sys

import digits
import fedbus

credentials, site = sys.argv[1], int(sys.argv[2])
everything, test = digits.load()
data = digits.shard(everything, site)


def train(
    model: fedbus.Model, settings: fedbus.Settings
) -> tuple[fedbus.Model, int, dict[str, float]]:
    """Train on this site's data."""
    epochs, rate = int(settings["epochs"]), float(settings["rate"])
    new, loss = digits.fit(model, data, epochs, rate, settings.seed)
    return new, len(data), {"loss": loss}


def validate(
    model: fedbus.Model, settings: fedbus.Settings
) -> tuple[int, dict[str, float]]:
    """Measure a model on the test images, which all sites share."""
    return len(test), {"accuracy": digits.accuracy(model, test)}


fedbus.run(train=train, validate=validate, credentials=credentials)
