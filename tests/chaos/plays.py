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
"""The time that each fault of this test added to its round, for the summary."""

Before: TypeAlias = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Played:
    """How a session went. `seconds` is from the blow to the end of the round that was hurt."""

    session: str
    model: str
    seconds: float


async def play(
    fed: Federation,
    fault: Fault,
    model: Json,
    *,
    closing: bool = False,
    through: bool = False,
    first: Before | None = None,
    **settings: Json,
) -> Played:
    """Run a session; strike when half of the clients have answered in a round, then let the others answer.

    With `closing`, strike when that round closes instead; with `through`, the fault is mended only when the
    session has ended. `first` is run in the middle of the round before.
    """
    half = len(fed.sites) // 2
    held = fed.names[half:]
    fed.gate.close(held, HURT_IN)
    if first is not None:
        fed.gate.close(held, HURT_IN - 1)
    session = await fed.start(model, rounds=ROUNDS, **settings)
    story = fed.stories[session]
    if first is not None:
        before = HURT_IN - 1
        await story.until(lambda: len(story.stored(before)) >= half, f"half of round {before}")
        await first()
        fed.gate.open()
        fed.gate.close(held, HURT_IN)
    await story.until(lambda: len(story.stored(HURT_IN)) >= half, f"half of round {HURT_IN}")
    if closing:
        fed.gate.open()
        await story.until(lambda: story.of_round("round.closing.v1", HURT_IN), "the round closes")
    struck_s = time.time()
    async with fault(fed.stack):
        fed.gate.open()
        if through:
            await story.until(lambda: story.end, f"{session} ends meanwhile", ENDS_WITHIN_S)
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
    clients: int = CLIENTS,
    closing: bool = False,
    through: bool = False,
    first: Before | None = None,
    **settings: Json,
) -> None:
    """Play a session in peace, then the same with the fault: the same model must come out."""
    async with federation(stack, clients) as fed:
        calm = await play(fed, nothing, model, closing=closing, **settings)
        hurt = await play(
            fed, fault, model, closing=closing, through=through, first=first, **settings
        )
        MEASURED.append(f"{hurt.seconds - calm.seconds:+6.2f} s  {name}")
        assert [one["counted"] for one in await fed.rounds(hurt.session)] == [clients] * ROUNDS
        assert hurt.model == calm.model
