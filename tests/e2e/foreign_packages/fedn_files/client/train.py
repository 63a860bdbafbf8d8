"""Trains from a file to a file."""

import json
import sys

import data
import model
from fedn.common.log_config import logger
from fedn.utils.helpers.helpers import load_metadata, save_metadata


def train(in_model_path, out_model_path):
    settings = load_metadata(in_model_path)
    lr = float(settings.get("lr", 0.1))
    weights, bias = model.load_parameters(in_model_path)
    x, y = data.load()
    for _ in range(int(settings.get("steps", 20))):
        wrong = x @ weights + bias - y
        weights = weights - lr * x.T @ wrong / len(y)
        bias = bias - lr * wrong.mean(keepdims=True)
    logger.info("trained with %s", json.dumps(settings))
    metadata = {"num_examples": len(y), "lr": lr, "steps": int(settings.get("steps", 20))}
    save_metadata(metadata, out_model_path)
    model.save_parameters([weights, bias], out_model_path)


if __name__ == "__main__":
    train(sys.argv[1], sys.argv[2])
