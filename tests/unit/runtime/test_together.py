"""Tasks side by side fail with the failure itself."""

import asyncio

import pytest
from fedbus_runtime.errors import BusAway, StoreAway
from fedbus_runtime.together import together


async def fail(error: Exception) -> None:
    raise error


async def test_a_fault_comes_out_as_itself():
    with pytest.raises(StoreAway):
        async with together() as tasks:
            tasks.create_task(fail(StoreAway("gone")))
            tasks.create_task(asyncio.sleep(60))


async def test_a_bug_does_not_hide_behind_a_server_that_is_away():
    with pytest.raises(ZeroDivisionError):
        async with together() as tasks:
            tasks.create_task(fail(BusAway("gone")))
            tasks.create_task(fail(ZeroDivisionError()))


async def test_groups_within_groups_come_out_as_their_cause():
    async def inner() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fail(StoreAway("gone")))

    with pytest.raises(StoreAway):
        async with together() as tasks:
            tasks.create_task(inner())


async def test_cancelling_cancels_the_tasks():
    started = asyncio.Event()

    async def wait() -> None:
        started.set()
        await asyncio.Event().wait()

    async def outer() -> None:
        async with together() as tasks:
            tasks.create_task(wait())

    task = asyncio.ensure_future(outer())  # noqa: TID251  # what is cancelled here needs a handle
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
