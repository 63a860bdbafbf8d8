"""Many virtual clients in one process, for the benchmarks: `python fleet.py FIRST CREDENTIALS...`.

A client gives the model back with its own 1e-6 added and says that it stands for its place's examples.
"""

import asyncio
import sys
from pathlib import Path

import fedbus
import numpy as np
import uvloop


def trainer(place: int) -> fedbus.Trainer:
    """Make a client's function: no training, different bytes for each client and round."""

    def train(
        model: fedbus.Model, settings: fedbus.Settings
    ) -> tuple[fedbus.Model, int, dict[str, float]]:
        step = np.float32(1e-6 * (place + 1) * settings.round)
        for array in model.values():
            array += step
        return model, place + 1, {"step": float(step)}

    return fedbus.Trainer(train)


async def main(first: int, files: list[str]) -> None:
    """Run all clients until the process is ended."""
    async with asyncio.TaskGroup() as group:
        for place, file in enumerate(files, start=first):
            client = fedbus.Client(trainer(place), fedbus.Options(credentials=Path(file)))
            group.create_task(client.run())


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2:]))
