"""Calls in threads: what they raise comes back, and nobody waits for them at the end."""

import asyncio
import threading

import pytest
from fedbus import _threads


async def test_results_and_errors_come_back_in_order_and_in_one_thread() -> None:
    worker = _threads.Worker("test")
    names = [await worker.run(lambda: threading.current_thread().name) for _ in range(3)]
    assert names == ["test"] * 3

    def fails(error: BaseException) -> None:
        raise error

    with pytest.raises(KeyError):
        await worker.run(lambda: fails(KeyError()))
    with pytest.raises(RuntimeError, match="StopIteration"):
        await worker.run(lambda: fails(StopIteration()))
    assert await worker.run(lambda: 3) == 3
    worker.close()


async def test_a_call_that_nobody_waits_for_learns_it() -> None:
    began, ended = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def works(stop: object) -> None:
        loop.call_soon_threadsafe(began.set)
        assert callable(stop)
        while not stop():
            ended.wait(0.001)
        ended.set()

    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(_threads.Stoppable().run(works))
        await began.wait()
        waiting.cancel()
    assert await asyncio.to_thread(ended.wait, 5)


def test_a_call_may_outlive_its_loop() -> None:
    release, done = threading.Event(), threading.Event()

    def works() -> None:
        release.wait(5)
        done.set()

    async def leave() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await _threads.run(works, "test")

    asyncio.run(leave())
    release.set()
    assert done.wait(5)
