"""Many clients: the combiners share the work, and one that is started in mid-round takes a part."""

import asyncio
import signal

from fedbus_local.stack import LocalStack
from fedbus_schemas.events import RoundCompleted

from tests.stacks import federation
from tests.trainers import LARGE

CLIENTS = 80
BATCH = 4
"""Twenty items a round, of some work each: none of the combiners is done with all before another has one."""
OLD = ("combiner-1", "combiner-2")
NEW = "combiner-3"


async def test_combiners_share_a_round_and_a_new_one_joins_in(stack: LocalStack) -> None:
    async with federation(stack, CLIENTS) as fed:
        late = fed.names[CLIENTS // 2 :]
        fed.gate.close(late, 2)
        session = await fed.start(LARGE, rounds=2, batch_size=BATCH, round_timeout_s=100)
        story = fed.stories[session]
        half = CLIENTS - len(late)
        await story.until(lambda: len(story.stored(2)) == half, "half of round 2 is stored")
        assert set(OLD) <= set(story.all("round.completed.v1")[0].data["workers"])

        await asyncio.to_thread(stack.scale, combiners=3)
        try:
            await asyncio.to_thread(stack.wait_healthy, NEW)
            # Who takes which item is chance; once the old ones have left, the rest can only be the new one's.
            for name in OLD:
                await asyncio.to_thread(stack.kill, name, signal.SIGTERM, restart=False)
                await asyncio.to_thread(stack.wait_down, name)
            fed.gate.open()
            await fed.ended(session)
        finally:
            for name in OLD:
                await asyncio.to_thread(stack.restart, name)
            await asyncio.to_thread(stack.scale, combiners=2)
        events = await fed.assert_sound(session)
        first, second = [event for event in events if isinstance(event, RoundCompleted)]
        assert len(first.counted) == len(second.counted) == CLIENTS
        assert NEW not in first.workers
        assert NEW in second.workers
