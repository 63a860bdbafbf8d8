"""Predicts with a model."""

import sys

import data
import model
from fedn.utils.helpers.helpers import save_metrics


def predict(in_model_path, out_json_path):
    weights, bias = model.load_parameters(in_model_path)
    x, _ = data.load()
    save_metrics({"predictions": (x @ weights + bias)[:3].tolist()}, out_json_path)


if __name__ == "__main__":
    predict(sys.argv[1], sys.argv[2])
