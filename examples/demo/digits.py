"""The demo's data and model: scikit-learn's digits, cut into five sites that differ, and a softmax layer.

1,797 handwritten digits of 8 x 8 pixels come with scikit-learn; nothing is downloaded. Each site sees
mostly a few of the ten classes, as a real site does, so its own model is poor on the others.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CLASSES = 10
PIXELS = 64
HIDDEN = 32
SITES = 5
OWN_SHARE = 0.5
"""Part of a class's examples that goes to the class's two home sites."""

Model = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Data:
    """Images (n, 64) in 0..1, float32, and labels (n,), int64."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


def load() -> tuple[Data, Data]:
    """Give the training and the test part, always the same cut."""
    from sklearn.datasets import load_digits  # a site has its file and needs no sklearn
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    scaled = (images / 16.0).astype(np.float32)
    parts = train_test_split(scaled, labels, test_size=0.25, random_state=7, stratify=labels)
    return Data(parts[0], parts[2]), Data(parts[1], parts[3])


def shard(data: Data, site: int) -> Data:
    """Give site 0..4 its part: mostly the classes 2·site and 2·site + 1 and a little of all others."""
    rng = np.random.default_rng(20261124)
    owner = rng.integers(0, SITES, len(data))
    at_home = rng.random(len(data)) < OWN_SHARE
    owner = np.where(at_home, data.labels // 2, owner)
    mine = owner == site
    return Data(data.images[mine], data.labels[mine])


def write(file: Path, data: Data, test: Data) -> None:
    """Write what one site has on its disk: its own images, and the test images that all share."""
    np.savez(
        file,
        images=data.images,
        labels=data.labels,
        test_images=test.images,
        test_labels=test.labels,
    )


def read(file: Path) -> tuple[Data, Data]:
    """Read a site's own images, and the test images."""
    with np.load(file, allow_pickle=False) as arrays:
        own = Data(arrays["images"], arrays["labels"])
        return own, Data(arrays["test_images"], arrays["test_labels"])


def new_model(seed: int = 1) -> Model:
    """Give an untrained network: 64 pixels, 32 hidden units (tanh), 10 classes."""
    rng = np.random.default_rng(seed)
    return {
        "hidden.weight": rng.normal(0, 0.2, (PIXELS, HIDDEN)).astype(np.float32),
        "hidden.bias": np.zeros(HIDDEN, np.float32),
        "out.weight": rng.normal(0, 0.2, (HIDDEN, CLASSES)).astype(np.float32),
        "out.bias": np.zeros(CLASSES, np.float32),
    }


def accuracy(model: Mapping[str, NDArray[np.float32]], data: Data) -> float:
    """Give the share of images that the model names rightly."""
    return float((_forward(model, data.images)[1].argmax(axis=1) == data.labels).mean())


def fit(
    model: Mapping[str, NDArray[np.float32]], data: Data, epochs: int, rate: float, seed: int
) -> tuple[Model, float]:
    """Train by mini-batches of 32; give the new model and the last epoch's mean loss."""
    net = {name: array.copy() for name, array in model.items()}
    rng = np.random.default_rng(seed)
    loss = 0.0
    for _ in range(epochs):
        order = rng.permutation(len(data))
        losses = [
            _step(net, data.images[batch], data.labels[batch], rate)
            for batch in np.array_split(order, max(1, len(data) // 32))
        ]
        loss = float(np.mean(losses))
    return net, loss


def _forward(
    model: Mapping[str, NDArray[np.float32]], images: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    hidden = np.tanh(images @ model["hidden.weight"] + model["hidden.bias"])
    scores = hidden @ model["out.weight"] + model["out.bias"]
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return hidden, scores / scores.sum(axis=1, keepdims=True)


def _step(net: Model, images: NDArray[np.float32], labels: NDArray[np.int64], rate: float) -> float:
    hidden, chances = _forward(net, images)
    rows = np.arange(len(labels))
    loss = float(-np.log(chances[rows, labels] + 1e-9).mean())
    error = chances.copy()
    error[rows, labels] -= 1
    error /= len(labels)
    back = (error @ net["out.weight"].T) * (1 - hidden * hidden)
    net["out.weight"] -= rate * hidden.T @ error
    net["out.bias"] -= rate * error.sum(axis=0)
    net["hidden.weight"] -= rate * images.T @ back
    net["hidden.bias"] -= rate * back.sum(axis=0)
    return loss
