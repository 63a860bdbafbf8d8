"""The bus and the combiners die while records come in: each is stored once, in order."""

import asyncio

import pytest
from fedbus_local.stack import LocalStack

from tests.chaos.faults import Fault, killed
from tests.stacks import eventually, federation

RECORDS = 3_000


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(killed("nats"), id="nats"),
        pytest.param(killed("combiner-1", "combiner-2"), id="combiners"),
    ],
)
async def test_no_record_is_lost_or_stored_twice(stack: LocalStack, fault: Fault) -> None:
    async with federation(stack, clients=1) as fed:
        client = fed.sites[0].client

        def log(first: int, last: int) -> None:
            for number in range(first, last):
                client.log_metric({"x": float(number)})

        third = RECORDS // 3
        await asyncio.to_thread(log, 0, third)
        async with fault(stack):
            await asyncio.to_thread(log, third, 2 * third)
        await asyncio.to_thread(log, 2 * third, RECORDS)

        async def all_sent() -> bool:
            return client.backlog().total == 0

        await eventually(all_sent, "everything is sent")
        steps = [one["step"] for one in await fed.rows("/v1/metrics")]
        assert steps == list(range(RECORDS))
        assert client.backlog().dropped == 0
