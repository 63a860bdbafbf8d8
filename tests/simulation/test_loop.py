"""The virtual loop: time jumps, order is stable, threads run inline, and a standstill is told."""

import asyncio
import time

import pytest

from tests.simulation.loop import Stuck, VirtualLoop, abandon


def run(work):
    loop = VirtualLoop("test")
    try:
        return loop.run_until_complete(work), loop.time()
    finally:
        abandon(loop)


def test_a_long_sleep_takes_no_time() -> None:
    started = time.monotonic()
    _, now = run(asyncio.sleep(1e6))
    assert now == 1e6
    assert time.monotonic() - started < 1


def test_timers_fire_in_their_order() -> None:
    seen: list[int] = []

    async def sleep(place: int, for_s: float) -> None:
        await asyncio.sleep(for_s)
        seen.append(place)

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for place, for_s in enumerate((3.0, 1.0, 2.0, 1.5)):
                group.create_task(sleep(place, for_s))

    run(main())
    assert seen == [1, 3, 2, 0]


def test_a_set_of_tasks_has_the_same_order_each_time() -> None:
    async def main() -> list[str]:
        seen: list[str] = []

        async def wait(name: str) -> None:
            try:
                await asyncio.sleep(1000)
            finally:
                seen.append(name)

        tasks = {asyncio.get_running_loop().create_task(wait(str(n))) for n in range(40)}
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return seen

    first, _ = run(main())
    ballast = [object() for _ in range(1000)]
    second, _ = run(main())
    assert first == second
    assert len(ballast) == 1000


def test_a_thread_runs_here_and_now() -> None:
    async def main() -> int:
        return await asyncio.to_thread(lambda: 7)

    assert run(main()) == (7, 0.0)


def test_a_standstill_is_told() -> None:
    loop = VirtualLoop("test")

    async def main() -> None:
        await loop.create_future()

    work = main()
    with pytest.raises(Stuck, match="nothing is left"):
        loop.run_until_complete(work)
    abandon(loop)


def test_chance_is_the_seeds() -> None:
    loops = [VirtualLoop(seed) for seed in ("a", "a", "b")]
    first, second, other = (loop.chance.random() for loop in loops)
    assert first == second
    assert first != other
    for loop in loops:
        loop.close()
