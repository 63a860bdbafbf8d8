"""This site's data."""

import os

import numpy as np

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data", "site.npz")


def load():
    with np.load(PATH) as file:
        return file["x"], file["y"]


if __name__ == "__main__":
    rng = np.random.default_rng(int(os.environ.get("SITE_SEED", "1")))
    x = rng.normal(size=(120, 4))
    os.makedirs(os.path.dirname(PATH), exist_ok=True)
    np.savez(PATH, x=x, y=x @ np.array([1.0, -2.0, 0.5, 3.0]) + 0.25)
