"""Several clients on one host take turns at computing, and no round suffers from it."""

import time
from itertools import pairwise
from pathlib import Path

import fedbus
from fedbus_local.stack import LocalStack
from fedbus_schemas.events import RoundCompleted

from tests.stacks import federation
from tests.trainers import TINY, train, validate

CLIENTS = 3
ROUNDS = 2
BUSY_S = 0.1


async def test_they_compute_one_at_a_time(stack: LocalStack, tmp_path: Path) -> None:
    spans: list[tuple[float, float]] = []

    def busy(
        model: fedbus.Model, settings: fedbus.Settings
    ) -> tuple[fedbus.Model, int, dict[str, float]]:
        began = time.monotonic()
        time.sleep(BUSY_S)  # stands for work: overlapping turns must show
        spans.append((began, time.monotonic()))
        return train(model, settings)

    async with federation(stack, clients=0) as fed:
        for number in range(CLIENTS):
            trainer = fedbus.Trainer(busy, validate)
            await fed.add(f"on-one-host-{number}", trainer, compute_lock=tmp_path / "turns")
        await fed.online(CLIENTS)
        session = await fed.start(TINY, rounds=ROUNDS, minimum=CLIENTS)
        await fed.ended(session)
        events = await fed.assert_sound(session)
    assert [len(one.counted) for one in events if isinstance(one, RoundCompleted)] == [3, 3]
    spans.sort()
    assert len(spans) == CLIENTS * ROUNDS
    assert all(end <= begin for (_, end), (begin, _) in pairwise(spans))
