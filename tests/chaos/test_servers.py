"""NATS, Redis and the store die, forget or come back with old data in mid-round: the same model comes out."""

from pathlib import Path

import pytest
from fedbus_local.stack import LocalStack

from tests.chaos.faults import (
    Fault,
    copy_redis,
    killed,
    redis_down,
    redis_flushed,
    redis_restored,
)
from tests.chaos.plays import assert_harmless
from tests.stacks import Json, federation
from tests.trainers import LARGE, TINY

long = pytest.mark.long


@pytest.mark.parametrize(
    ("what", "fault", "model"),
    [
        pytest.param("SIGKILL nats", killed("nats"), TINY, id="nats"),
        pytest.param(
            "SIGKILL nats, large model", killed("nats"), LARGE, id="nats-large", marks=long
        ),
        pytest.param("SIGKILL redis", killed("redis"), TINY, id="redis", marks=long),
        pytest.param("FLUSHALL", redis_flushed, TINY, id="redis-flushed"),
        pytest.param("redis down", redis_down, TINY, id="redis-down", marks=long),
        pytest.param("SIGKILL s3", killed("s3"), LARGE, id="s3"),
        pytest.param(
            "SIGKILL nats redis s3", killed("nats", "redis", "s3"), LARGE, id="all", marks=long
        ),
    ],
)
async def test_a_hurt_server_changes_nothing(
    stack: LocalStack, what: str, fault: Fault, model: Json
) -> None:
    await assert_harmless(stack, what, fault, model=model)


async def test_a_stale_copy_of_redis_changes_nothing(stack: LocalStack, tmp_path: Path) -> None:
    copy = tmp_path / "redis"

    async def first() -> None:
        await copy_redis(stack, copy)

    await assert_harmless(stack, "redis restored stale", redis_restored(copy), first=first)


@pytest.mark.long
async def test_clients_that_redis_forgot_are_asked_after_their_next_heartbeat(
    stack: LocalStack,
) -> None:
    async with federation(stack, clients=4) as fed:
        fed.gate.close(fed.names[1:], 2)
        session = await fed.start(TINY, rounds=4)
        story = fed.stories[session]
        await story.until(lambda: story.stored(2), "an update of round 2 is stored")
        async with redis_flushed(stack):
            fed.sites[0].go()
            fed.sites[0].come()  # its hello is the first thing that the flushed server hears
            await fed.online(1)
        fed.gate.open()
        await fed.ended(session)
        assert [one["cohort"] for one in await fed.rounds(session)] == [4] * 4
        await fed.assert_sound(session)


@pytest.mark.long
async def test_partials_that_redis_forgot_are_made_again(stack: LocalStack) -> None:
    await assert_harmless(
        stack, "FLUSHALL, batches", redis_flushed, model=LARGE, clients=24, batch_size=4
    )
