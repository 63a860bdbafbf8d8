"""What a round needs only while it is open is gone when it is over."""

import redis
from fedbus_local import keys as secret_files
from fedbus_local.stack import LocalStack
from fedbus_schemas import keys

from tests.e2e.stores import store_of
from tests.stacks import Federation, eventually, federation
from tests.trainers import TINY

CLIENTS = 12
BATCH = 3


def redis_keys(fed: Federation) -> set[str]:
    """Name the kinds of a project's keys."""
    password = secret_files.read(fed.stack.layout, "redis.password")
    with redis.Redis(port=fed.stack.plan.ports["redis"], password=password) as connection:
        found = connection.scan_iter(f"fl:{fed.project}:*", count=1000)
        return {one.decode().split(":")[2] for one in found}


async def test_partials_and_counts_go_with_their_round(stack: LocalStack) -> None:
    async with federation(stack, CLIENTS) as fed, store_of(stack) as store:
        fed.gate.close(fed.names[-1:], 1)
        session = await fed.start(TINY, rounds=2, batch_size=BATCH, inline_bytes_max=0)
        place = keys.partials(fed.project, session)

        async def some() -> bool:
            return bool(await store.list(place)) and "partials" in redis_keys(fed)

        async def none() -> bool:
            left = redis_keys(fed) & {"stored", "fresh", "partials", "transfers"}
            return not await store.list(place) and not left

        await eventually(some, "there are partial sums")
        fed.gate.open()
        await fed.ended(session)
        await eventually(none, "nothing is left of the rounds")
        # A session that is stopped in mid-round leaves no more.
        fed.gate.close(fed.names[-1:], 1)
        session = await fed.start(TINY, rounds=2, batch_size=BATCH, inline_bytes_max=0)
        place = keys.partials(fed.project, session)
        await eventually(some, "there are partial sums")
        await fed.order(session, "stop")
        await eventually(none, "nothing is left of the stopped session")
