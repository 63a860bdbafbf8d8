"""Test your trainer in a whole federation, in a unit test: no server, no network, about half a second.

Run it with `pytest examples/02_test_your_trainer.py`, or as a program.
"""

import numpy as np
from fedbus import Model, Settings, Trainer
from fedbus_local.testing import Federation

TRUE = np.array([2.0, -1.0, 0.5], np.float32)


def site(seed: int) -> Trainer:
    """Make a site with data of its own: examples of one line, with noise."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(200, 3)).astype(np.float32)
    outputs = inputs @ TRUE + rng.normal(scale=0.01, size=200).astype(np.float32)

    def loss(model: Model) -> float:
        return float(np.mean((inputs @ model["w"] - outputs) ** 2))

    def train(model: Model, settings: Settings) -> tuple[Model, int, dict[str, float]]:
        for _ in range(settings["steps"]):
            if settings.cancelled():
                break
            error = inputs @ model["w"] - outputs
            model["w"] -= settings["lr"] * inputs.T @ error / len(inputs)
        return model, len(inputs), {"loss": loss(model)}

    def validate(model: Model, settings: Settings) -> tuple[int, dict[str, float]]:
        return len(inputs), {"loss": loss(model)}

    return Trainer(train, validate)


def test_three_sites_learn_one_line() -> None:
    federation = Federation([site(1), site(2), site(3)], {"w": np.zeros(3, np.float32)})
    ran = federation.run(rounds=3, train={"lr": 0.3, "steps": 10})
    losses = [np.mean([one["loss"] for one in each.validations.values()]) for each in ran.rounds]
    print("mean loss by round:", *(f"{loss:.6f}" for loss in losses))
    assert losses == sorted(losses, reverse=True)
    assert np.allclose(ran.model["w"], TRUE, atol=0.01)


if __name__ == "__main__":
    test_three_sites_learn_one_line()
