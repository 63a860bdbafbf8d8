"""A round closes at its target: who still trains is told, stops, and is there for the next round."""

from fedbus_local.stack import LocalStack

from tests.stacks import Lines, federation
from tests.trainers import TINY


async def test_a_task_withdrawn_when_the_round_closes_stops_the_training(
    stack: LocalStack, lines: Lines
) -> None:
    async with federation(stack, clients=4) as fed:
        slow, missing = fed.names[0], fed.names[1]
        # The gate lets a function out of round 1 only when its `settings.cancelled()` is true.
        fed.gate.close([slow], 1)
        fed.gate.close([missing], 2)
        session = await fed.start(TINY, rounds=2, minimum=3, target=3, invited=4)
        await fed.ended(session)
        story = fed.stories[session]
        assert len(story.stored(1)) == 3
        # The second round reached its target with the one that was slow in the first.
        assert len(story.stored(1) | story.stored(2)) == 4
        assert f"{session} round 1.1: the task was withdrawn" in lines.lines
        for view in await fed.rounds(session):
            assert (view["counted"], view["closed_by"]) == (3, "target")
        await fed.assert_sound(session)
