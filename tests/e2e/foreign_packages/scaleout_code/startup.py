"""Registers what this client does."""

import numpy as np
from scaleoututil.helpers.helpers import get_helper
from scaleoututil.logging import ScaleoutLogger
from scaleoututil.utils.model import ScaleoutModel

HELPER_MODULE = "numpyhelper"


class MyClient:
    def __init__(self, client):
        self.client = client
        self.helper = get_helper(HELPER_MODULE)
        rng = np.random.default_rng(5)
        self.x = rng.normal(size=(60, 4))
        self.y = self.x @ np.array([1.0, -2.0, 0.5, 3.0])
        self.rounds = 0
        client.set_train_callback(self.train)
        client.set_validate_callback(self.validate)
        client.set_custom_callback("Custom_Count", self.count)

    def train(self, scaleout_model, settings):
        self.rounds += 1
        (weights,) = scaleout_model.get_training_model(self.helper)
        for step in range(int(settings.get("steps", 20))):
            wrong = self.x @ weights - self.y
            weights = weights - 0.1 * self.x.T @ wrong / len(self.y)
            self.client.log_metric({"mse": float(np.mean(wrong**2))}, step=step)
            self.client.check_task_abort()
        ScaleoutLogger().info(f"round {self.rounds}")
        result = ScaleoutModel.from_training_model([weights], helper=self.helper)
        meta = {"training_metadata": {"num_examples": len(self.y), "rounds": self.rounds}}
        return result, meta

    def validate(self, scaleout_model):
        (weights,) = scaleout_model.get_training_model(self.helper)
        return {"mse": float(np.mean((self.x @ weights - self.y) ** 2))}

    def count(self, request):
        return {"rounds": self.rounds}


def startup(client):
    client.log_attributes({"style": "in process"})
    MyClient(client)
