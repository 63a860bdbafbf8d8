"""Sessions by other rules on the whole stack: the combiner dies in the finish, the bits stay the same."""

import asyncio

import pytest
from fedbus_local.stack import LocalStack

from tests.stacks import federation
from tests.trainers import LARGE

DEFAULT = ("fedadam", "median", "krum")
LONG = (
    "fedavgm",
    "fedadagrad",
    "fedyogi",
    "fedprox",
    "trimmed_mean",
    "multi_krum",
    "geometric_median",
)


@pytest.mark.parametrize(
    "aggregator",
    [*DEFAULT, *(pytest.param(one, marks=pytest.mark.long) for one in LONG)],
)
async def test_a_rule_survives_its_combiner_and_replays(stack: LocalStack, aggregator: str) -> None:
    async with federation(stack, clients=5) as fed:
        session = await fed.start(LARGE, rounds=3, aggregator=aggregator, minimum=5)
        story = fed.stories[session]
        await story.until(lambda: story.of_round("round.closing.v1", 2), "round 2 closes")
        await asyncio.to_thread(stack.kill, "combiner-1", restart=True)
        await fed.ended(session)
        await fed.assert_sound(session)
        completed = story.all("round.completed.v1")
        assert {one.data["rule"] for one in completed} == {f"{aggregator}/1"}
