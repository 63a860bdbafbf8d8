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


async def test_an_erased_client_comes_again_as_a_new_one(stack: LocalStack) -> None:
    """Every combiner forgets it at once; the running client notices, and joins anew by itself."""
    async with federation(stack, clients=2) as fed:
        one, other = (await fed.ask("GET", "/v1/clients", params={"sort": "name"}))["items"]
        renamed = await fed.ask("PATCH", f"/v1/clients/{other['client']}", json={"name": "b"})
        assert renamed["name"] == "b"
        answer = await fed.http.delete(f"/v1/clients/{one['client']}")
        assert answer.status_code == 204
        await fed.online(2)
        clients = (await fed.ask("GET", "/v1/clients"))["items"]
        assert one["client"] not in {each["client"] for each in clients}
        assert {each["name"] for each in clients} == {one["name"], "b"}
        session = await fed.start(TINY, rounds=2, clients={"ids": [one["name"], "b"]})
        await fed.ended(session)
        assert [each["counted"] for each in await fed.rounds(session)] == [2, 2]
        listed = (await fed.ask("GET", "/v1/controllers"))["items"]
        assert {each["session"] for each in listed} == {session}
