"""Makes the seed model."""

import os

import numpy as np
from scaleoututil.helpers.helpers import get_helper
from scaleoututil.utils.model import ScaleoutModel


def build():
    seed = ScaleoutModel.from_training_model([np.zeros(4)], get_helper("numpyhelper"))
    seed.save_to_file(os.path.join(os.environ["SCALEOUT_BUILD_OUTPUT_DIR"], "seed.npz"))
