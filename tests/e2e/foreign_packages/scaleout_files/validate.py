"""Measures a model."""

import sys

from model import X, Y, helper
from scaleoututil.helpers.helpers import save_metrics
from scaleoututil.utils.model import ScaleoutModel

in_path, out_path = sys.argv[1:]
(weights,) = ScaleoutModel.from_file(in_path).get_training_model(helper)
save_metrics({"mse": float(((X @ weights - Y) ** 2).mean())}, out_path)
