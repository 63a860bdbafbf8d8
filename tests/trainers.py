"""Trainers for tests: what they make follows from `settings.seed` alone; a test can hold them in mid-round."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import fedbus
import numpy as np

HOLD_LOOK_S = 0.1

TINY = {"w": np.zeros(16, np.float32), "b": np.zeros(4, np.float32)}
"""Rides inside messages."""
LARGE = {"w": np.zeros((500, 400), np.float32), "b": np.zeros(400, np.float32)}
"""800 KB, so it goes through the object store."""
HUGE = {"w": np.zeros((2_000, 1_000), np.float32), "b": np.zeros(1_000, np.float32)}
"""8 MB: making the new model takes long enough to be caught at it."""


class Gate:
    """Holds train functions of named clients in a round, from any thread, until it is opened."""

    def __init__(self) -> None:
        self._held: set[tuple[str, int]] = set()
        self._shut = 0
        self._changed = threading.Condition()

    def close(self, names: Iterable[str], round_number: int) -> None:
        """From now on these clients stay in their train function of this round."""
        with self._changed:
            self._held |= {(name, round_number) for name in names}

    def open(self) -> None:
        """Let everybody go on."""
        with self._changed:
            self._held.clear()
            self._changed.notify_all()

    @contextmanager
    def shut(self) -> Iterator[None]:
        """Hold everybody in every round for a while."""
        with self._changed:
            self._shut += 1
        try:
            yield
        finally:
            with self._changed:
                self._shut -= 1
                self._changed.notify_all()

    def pass_through(self, name: str, settings: fedbus.Settings) -> None:
        """Return when the gate is open for this client, or its task was withdrawn."""
        with self._changed:
            while self._holds(name, settings.round) and not settings.cancelled():
                self._changed.wait(HOLD_LOOK_S)

    def _holds(self, name: str, round_number: int) -> bool:
        return self._shut > 0 or (name, round_number) in self._held


def train(
    model: fedbus.Model, settings: fedbus.Settings
) -> tuple[fedbus.Model, int, dict[str, float]]:
    """Make an update that depends on the model and the seed only."""
    rng = np.random.default_rng(settings.seed)
    new = {
        name: (0.5 * array + rng.normal(0, 0.1, array.shape)).astype(array.dtype)
        for name, array in model.items()
    }
    return new, 1 + settings.seed % 100, {"loss": float(np.abs(new["b"]).mean())}


def validate(model: fedbus.Model, settings: fedbus.Settings) -> tuple[int, dict[str, float]]:
    """Measure something of a model."""
    return 10, {"size": float(np.abs(model["w"]).mean()), "round": float(settings.round)}


def trainer(name: str, gate: Gate) -> fedbus.Trainer:
    """Give a client's functions; training waits at the gate."""

    def train_at_gate(
        model: fedbus.Model, settings: fedbus.Settings
    ) -> tuple[fedbus.Model, int, dict[str, float]]:
        gate.pass_through(name, settings)
        return train(model, settings)

    return fedbus.Trainer(train_at_gate, validate)
