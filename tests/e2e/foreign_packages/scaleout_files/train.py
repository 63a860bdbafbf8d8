"""Trains from a file to a file."""

import sys

from model import X, Y, helper
from scaleoututil.helpers.helpers import load_metadata, save_metadata
from scaleoututil.utils.model import ScaleoutModel

in_path, out_path = sys.argv[1:]
settings = load_metadata(in_path)
(weights,) = ScaleoutModel.from_file(in_path).get_training_model()
for _ in range(int(settings.get("steps", 20))):
    weights = weights - 0.1 * X.T @ (X @ weights - Y) / len(Y)
ScaleoutModel.from_training_model([weights], helper).save_to_file(out_path)
save_metadata({"num_examples": len(Y)}, out_path)
