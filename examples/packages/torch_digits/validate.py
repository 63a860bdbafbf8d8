"""`python validate.py IN OUT`: a JSON mapping of numbers in OUT."""

import json
import sys

import data
import model
import torch

given, made = sys.argv[1:]
net = model.load(given)
images, digits = data.load(train=False)
with torch.no_grad():
    right = net(images).argmax(dim=1) == digits
with open(made, "w") as file:
    json.dump({"accuracy": right.float().mean().item(), "num_examples": len(digits)}, file)
