"""Two of ten clients lie: what each aggregation rule makes of it, on scikit-learn's digits.

Run `python examples/03_robust_rules.py`: a table of accuracies, rules by attacks, from whole federations in
memory (production controller, combiner and clients over servers in memory). No server is needed.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import fedbus
import numpy as np
from fedbus_local.testing import Federation

sys.path.insert(0, str(Path(__file__).parent / "demo"))

import digits

CLIENTS, LIARS, ROUNDS, EPOCHS, RATE = 10, 2, 8, 2, 0.5
RULES: Mapping[str, Mapping[str, float]] = {
    "fedavg": {},
    "median": {},
    "trimmed_mean": {"trim": 0.2},
    "krum": {"byzantine": LIARS},
    "multi_krum": {"byzantine": LIARS},
    "geometric_median": {},
}
ATTACKS = ("none", "sign flip", "scaling", "alie", "label flip")
ALIE_Z = 0.5
"""How many deviations a lie of "A Little Is Enough" (arXiv 1902.06156) stays from the honest mean."""

TRAIN, TEST = digits.load()
PARTS = [
    digits.Data(TRAIN.images[one::CLIENTS], TRAIN.labels[one::CLIENTS]) for one in range(CLIENTS)
]


def honest(model: fedbus.Model, part: digits.Data, seed: int) -> digits.Model:
    """Train on one's own data."""
    return digits.fit(model, part, EPOCHS, RATE, seed)[0]


def lie(attack: str, number: int, model: fedbus.Model, seed: int) -> fedbus.Model:
    """Make what a liar sends; a liar of ALIE knows the data of all."""
    part = PARTS[number]
    if attack == "label flip":
        return honest(model, digits.Data(part.images, digits.CLASSES - 1 - part.labels), seed)
    if attack == "alie":
        sent = [honest(model, one, seed) for one in PARTS]
        stacks = {name: np.stack([one[name] for one in sent]) for name in model}
        return {name: one.mean(axis=0) - ALIE_Z * one.std(axis=0) for name, one in stacks.items()}
    factor = {"sign flip": -10.0, "scaling": 50.0}[attack]
    new = honest(model, part, seed)
    return {name: model[name] + factor * (new[name] - model[name]) for name in model}


def client(number: int, attack: str) -> fedbus.TrainFunction:
    """Give a client's train function; the last ones lie."""

    def train(
        model: fedbus.Model, settings: fedbus.Settings
    ) -> tuple[fedbus.Model, int, dict[str, float]]:
        if attack == "none" or number < CLIENTS - LIARS:
            return dict(honest(model, PARTS[number], settings.seed)), len(PARTS[number]), {}
        return lie(attack, number, model, settings.seed), len(PARTS[number]), {}

    return train


def accuracy(rule: str, attack: str) -> float:
    """Run one federation to its end and measure its model on the test images."""
    clients = [client(one, attack) for one in range(CLIENTS)]
    federation = Federation(clients, digits.new_model())
    ran = federation.run(
        rounds=ROUNDS, aggregator=rule, aggregator_parameters=dict(RULES[rule]), validate=False
    )
    return digits.accuracy(ran.model, TEST)


def main() -> None:
    """Print the table."""
    print(f"{'':18}" + "".join(f"{one:>12}" for one in ATTACKS))
    for rule in RULES:
        print(f"{rule:18}" + "".join(f"{accuracy(rule, one):12.3f}" for one in ATTACKS), flush=True)


if __name__ == "__main__":
    main()
