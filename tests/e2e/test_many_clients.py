"""Many clients on a stack of their own: the work is shared, and a combiner that is started takes a part."""

import asyncio
from collections.abc import Iterator

import pytest
from fedbus_local.stack import LocalStack
from fedbus_schemas.events import RoundCompleted

from tests.stacks import federation
from tests.trainers import TINY

CLIENTS = 80
BATCH = 8
NEW = "combiner-3"


@pytest.fixture
def own_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    place = tmp_path_factory.mktemp("many") / "stack"
    with LocalStack(place, controllers=1, combiners=2) as running:
        yield running


async def test_combiners_share_a_round_and_a_new_one_joins_in(own_stack: LocalStack) -> None:
    async with federation(own_stack, CLIENTS) as fed:
        late = fed.names[CLIENTS // 2 :]
        fed.gate.close(late, 2)
        session = await fed.start(TINY, rounds=2, batch_size=BATCH, round_timeout_s=100)
        story = fed.stories[session]
        half = CLIENTS - len(late)
        await story.until(lambda: len(story.stored(2)) == half, "half of round 2 is stored")
        assert {"combiner-1", "combiner-2"} <= set(
            story.all("round.completed.v1")[0].data["workers"]
        )

        await asyncio.to_thread(own_stack.scale, combiners=3)
        await asyncio.to_thread(own_stack.wait_healthy, NEW)
        fed.gate.open()
        await fed.ended(session)
        events = await fed.assert_sound(session)
        first, second = [event for event in events if isinstance(event, RoundCompleted)]
        assert len(first.counted) == len(second.counted) == CLIENTS
        assert NEW not in first.workers
        assert {"combiner-1", "combiner-2", NEW} <= set(second.workers)
