"""Ridge regression by gradient descent, on data that this client alone has."""

import zlib

import numpy as np

EXAMPLES = 200
TRUTH = np.linspace(-1, 1, 8, dtype=np.float32)


class Site:
    """One client's data, loaded once: the process stays from task to task."""

    def __init__(self, name: str) -> None:
        random = np.random.default_rng(zlib.crc32(name.encode()))
        self.features = random.normal(size=(EXAMPLES, TRUTH.size)).astype(np.float32)
        noise = random.normal(scale=0.1, size=EXAMPLES).astype(np.float32)
        self.targets = self.features @ TRUTH + 0.5 + noise

    def train(self, model, settings):
        """Take some steps from the model of the federation."""
        weights, bias = model["0"], model["1"]
        for step in range(int(settings.get("steps", 10))):
            if settings.cancelled():
                break
            wrong = self.features @ weights + bias - self.targets
            slope = self.features.T @ wrong / EXAMPLES + settings.get("ridge", 0.001) * weights
            weights = weights - settings.get("lr", 0.1) * slope
            bias = bias - settings.get("lr", 0.1) * wrong.mean(keepdims=True)
            settings.client.log_metric({"mse": np.square(wrong).mean()}, step=step)
        made = {"0": weights.astype(np.float32), "1": bias.astype(np.float32)}
        return made, EXAMPLES, {"mse": self.error(made)}

    def validate(self, model, settings):
        """Measure a model on this client's data."""
        return EXAMPLES, {"mse": self.error(model)}

    def error(self, model) -> float:
        """Give the mean squared error."""
        return float(np.square(self.features @ model["0"] + model["1"] - self.targets).mean())


def startup(client):
    """Load the data and say what this client does."""
    site = Site(client.name)
    client.log_attributes({"examples": EXAMPLES})
    client.set_train_callback(site.train)
    client.set_validate_callback(site.validate)
