"""The model, as a list of arrays."""

import numpy as np
from scaleoututil.helpers.helpers import get_helper
from scaleoututil.utils.model import ScaleoutModel

helper = get_helper("numpyhelper")
rng = np.random.default_rng(3)
X = rng.normal(size=(80, 4)).astype(np.float32)
Y = X @ np.array([1.0, -2.0, 0.5, 3.0], np.float32)

if __name__ == "__main__":
    ScaleoutModel.from_training_model([np.zeros(4, np.float32)], helper).save_to_file("seed.npz")
