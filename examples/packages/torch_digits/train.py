"""`python train.py IN OUT`: settings in IN-metadata, what came of it in OUT-metadata."""

import json
import sys

import data
import model
import torch

given, made = sys.argv[1:]
with open(f"{given}-metadata") as file:
    settings = json.load(file)
net = model.load(given)
images, digits = data.load(train=True)
optimizer = torch.optim.SGD(net.parameters(), lr=settings.get("lr", 0.5))
for _ in range(int(settings.get("epochs", 5))):
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(net(images), digits)
    loss.backward()
    optimizer.step()
model.save(net, made)
with open(f"{made}-metadata", "w") as file:
    json.dump({"num_examples": len(digits), "loss": loss.item()}, file)
