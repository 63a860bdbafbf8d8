"""The whole stack goes down in mid-round and comes up again over its data directory."""

import asyncio
from pathlib import Path

from fedbus_local.stack import LocalStack

from tests.stacks import federation
from tests.trainers import LARGE


async def test_a_session_goes_on_after_the_stack_was_down(tmp_path: Path) -> None:
    stack = LocalStack(tmp_path / "stack", controllers=1, combiners=1)
    async with stack, federation(stack, clients=3) as fed:
        calm = await fed.start(LARGE, rounds=3)
        undisturbed = await fed.ended(calm)
        fed.gate.close(fed.names[1:], 2)
        session = await fed.start(LARGE, rounds=3)
        story = fed.stories[session]
        await story.until(lambda: story.stored(2), "an update of round 2 is stored")
        await asyncio.to_thread(stack.stop)
        assert not await asyncio.to_thread(lambda: stack.running)
        await asyncio.to_thread(stack.start)
        fed.gate.open()
        assert await fed.ended(session) == undisturbed
        await fed.assert_sound(session)
