"""Who is asked: a client that stopped is not waited for, and after a flush of Redis nobody is left out."""

import asyncio

from fedbus_local.stack import LocalStack

from tests.chaos.faults import redis_flushed
from tests.stacks import federation
from tests.trainers import TINY


async def test_a_round_does_not_ask_a_client_that_has_just_stopped(stack: LocalStack) -> None:
    async with federation(stack, clients=3) as fed:
        fed.gate.close(fed.names[:1], 1)
        session = await fed.start(TINY, rounds=2, minimum=2)
        story = fed.stories[session]
        await story.until(lambda: len(story.stored(1)) == 2, "two of three have answered")
        fed.sites[2].go()

        async def online() -> int:
            page = await fed.ask("GET", "/v1/clients")
            return sum(one["online"] is True for one in page["items"])

        async with asyncio.timeout(5):  # far less than the 30 s for which it would count as online
            while await online() > 2:
                await asyncio.sleep(0.05)
        fed.gate.open()
        await fed.ended(session)
        first, second = story.all("round.opened.v1")
        assert len(first.data["cohort"]) == 3
        assert len(second.data["cohort"]) == 2


async def test_after_a_flush_those_that_were_asked_before_are_asked_again(
    stack: LocalStack,
) -> None:
    async with federation(stack, clients=4) as fed:
        fed.gate.close(fed.names[:1], 1)
        session = await fed.start(TINY, rounds=2, minimum=1)
        story = fed.stories[session]
        await story.until(lambda: len(story.stored(1)) == 3, "three of four have answered")
        async with redis_flushed(stack):
            fed.gate.open()
        await fed.ended(session)
        assert [len(one.data["cohort"]) for one in story.all("round.opened.v1")] == [4, 4]
        assert [one["counted"] for one in await fed.rounds(session)] == [4, 4]
