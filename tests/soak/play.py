"""Many small sessions on one stack, with a killed service now and then; after each, a look at everything."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import cycle

from fedbus_local.stack import LocalStack

from tests.e2e.stores import store_of
from tests.soak.measures import Sample, look
from tests.stacks import Federation, Json, federation
from tests.trainers import LARGE, TINY

CLIENTS = 6
ROUNDS = 6
BATCH = 2
KILL_EVERY = 3
"""Cycles between two kills."""
VICTIMS = ("combiner-1", "controller-1", "combiner-2", "controller-2", "api")
SETTLE_S = 20.0
LOOK_S = 0.2


async def soak(
    stack: LocalStack, seconds: float, told: Callable[[str], None] = print
) -> list[Sample]:
    """Run sessions for so long, and give a sample of every cycle."""
    samples: list[Sample] = []
    victims = cycle(VICTIMS)
    end_s = time.monotonic() + seconds
    async with store_of(stack) as store, federation(stack, CLIENTS) as fed:
        while time.monotonic() < end_s:
            number = len(samples) + 1
            victim = next(victims) if number % KILL_EVERY == 0 else None
            await _cycle(fed, number, victim)
            samples.append(await settled(partial(look, stack, store, 2 * ROUNDS * number)))
            left_s = end_s - time.monotonic()
            said = f", killed {victim}" if victim else ""
            told(f"cycle {number}: {2 * ROUNDS * number} rounds, {left_s:.0f} s left{said}")
    return samples


async def _cycle(fed: Federation, number: int, victim: str | None) -> None:
    """Run a session inside messages and one through the object store, where somebody is killed."""
    await _play(fed, TINY, number, None)
    await _play(fed, LARGE, number, victim)


async def _play(fed: Federation, model: Json, number: int, victim: str | None) -> None:
    session = await fed.start(model, rounds=ROUNDS, batch_size=BATCH, seed=number)
    story = fed.stories[session]
    if victim is not None:
        await story.until(lambda: story.of_round("round.completed.v1", 2), "round 2 is over")
        pid = await asyncio.to_thread(fed.stack.kill, victim)
        await asyncio.to_thread(fed.stack.wait_reborn, victim, pid)
    await fed.ended(session)
    assert [one["counted"] for one in await fed.rounds(session)] == [CLIENTS] * ROUNDS
    fed.leave(session)


async def settled(measure: Callable[[], Awaitable[Sample]]) -> Sample:
    """Measure when effects of the last entry are done: a moment after it, nothing is under way."""
    deadline_s = time.monotonic() + SETTLE_S
    while True:
        sample = await measure()
        busy = [name for name in sample.values if "pending" in name or "partials" in name]
        if not any(sample.values[name] for name in busy) or time.monotonic() > deadline_s:
            return sample
        await asyncio.sleep(LOOK_S)
