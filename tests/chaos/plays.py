"""A session that is disturbed in the middle of a round, and the same session undisturbed."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from fedbus_local.stack import LocalStack

from tests.chaos.faults import Fault, nothing
from tests.stacks import Federation, Json, federation
from tests.trainers import TINY

CLIENTS = 4
ROUNDS = 4
HURT_IN = 2
ENDS_WITHIN_S = 90.0

MEASURED: list[str] = []
"""The time that each fault added to its round, for the summary."""

Before: TypeAlias = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Played:
    """How a session went. `seconds` is from the blow to the end of the round that was hurt."""

    session: str
    model: str
    seconds: float


async def play(
    fed: Federation, fault: Fault, model: Json, *, first: Before | None = None
) -> Played:
    """Run a session; strike when half of the clients have answered in a round, then let the others answer.

    `first` is run in the middle of the round before, in the same way.
    """
    half = len(fed.sites) // 2
    held = fed.names[half:]
    fed.gate.close(held, HURT_IN)
    if first is not None:
        fed.gate.close(held, HURT_IN - 1)
    session = await fed.start(model, rounds=ROUNDS)
    story = fed.stories[session]
    if first is not None:
        before = HURT_IN - 1
        await story.until(lambda: len(story.stored(before)) >= half, f"half of round {before}")
        await first()
        fed.gate.open()
        fed.gate.close(held, HURT_IN)
    await story.until(lambda: len(story.stored(HURT_IN)) >= half, f"half of round {HURT_IN}")
    struck_s = time.time()
    async with fault(fed.stack):
        fed.gate.open()
    await story.until(lambda: story.end, f"{session} ends", ENDS_WITHIN_S)
    last = await fed.ended(session)
    await fed.assert_sound(session)
    [completed] = story.of_round("round.completed.v1", HURT_IN)
    return Played(session, last, completed.time_s - struck_s)


async def assert_harmless(
    stack: LocalStack,
    name: str,
    fault: Fault,
    *,
    model: Json = TINY,
    first: Callable[[Federation], Awaitable[None]] | None = None,
) -> None:
    """Play a session in peace, then the same with the fault: the same model must come out."""
    async with federation(stack, CLIENTS) as fed:
        calm = await play(fed, nothing, model)
        prepare = None if first is None else lambda: first(fed)
        hurt = await play(fed, fault, model, first=prepare)
        added = hurt.seconds - calm.seconds
        MEASURED.append(f"{added:+6.2f} s  {name}")
        assert [one["counted"] for one in await fed.rounds(hurt.session)] == [CLIENTS] * ROUNDS
        assert hurt.model == calm.model
