"""An event loop whose time is a number: when nothing can run, it jumps to the next timer.

Whatever runs in it is a function of the seed. Threads run inline, a task hashes by its serial number (so that
a set of tasks has an order of its own), and chance is the loop's.
"""

import asyncio
import heapq
import itertools
import random
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

STEPS_MAX = 400_000
"""Turns of the loop in one simulation; more is a livelock."""


class Stuck(Exception):
    """Nothing can run and no timer is set, or the loop turns for ever."""


class SimTask(asyncio.Task[Any]):
    """A task whose place in a set depends on when it was made, not on where it lies in memory."""

    serial = 0

    def __hash__(self) -> int:
        return self.serial


class VirtualLoop(asyncio.BaseEventLoop):
    """The loop of one simulation. `on_task` is told of every task that is made."""

    def __init__(self, seed: object) -> None:
        super().__init__()
        self.seed = seed
        self.chance = self.stream("loop")
        self.on_task: Callable[[asyncio.Task[Any], Context | None], None] | None = None
        self.faults: list[dict[str, Any]] = []
        self._now = 0.0
        self._serials = itertools.count(1)
        self._steps = 0
        self.set_exception_handler(lambda _, context: self.faults.append(context))

    def stream(self, name: str) -> random.Random:
        """Give a source of chance of its own: what others draw from theirs does not change it."""
        return random.Random(f"{self.seed}/{name}")

    def time(self) -> float:
        return self._now

    def create_task(
        self,
        coro: Coroutine[Any, Any, Any],  # type: ignore[override]  # what the base takes is wider
        *,
        name: object = None,
        context: Context | None = None,
    ) -> asyncio.Task[Any]:
        task = SimTask(coro, loop=self, name="", context=context)
        task.serial = next(self._serials)
        if self.on_task is not None:
            self.on_task(task, context)
        return task

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        """Run it here and now."""
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001  # carried to whoever waits
            done.set_exception(error)
        return done

    def _run_once(self) -> None:
        """One turn: what is ready runs; if nothing is, time jumps to the next timer."""
        scheduled, ready = self._scheduled, self._ready  # type: ignore[attr-defined]
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
        if not ready and not self._stopping:  # type: ignore[attr-defined]
            if not scheduled:
                raise Stuck("nothing is left that could happen")
            self._now = max(self._now, scheduled[0]._when)
        while scheduled and scheduled[0]._when <= self._now:
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            ready.append(handle)
        self._steps += 1
        if self._steps > STEPS_MAX:
            raise Stuck(f"more than {STEPS_MAX} turns of the loop")
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers leave the heap when they come to its top."""

    def _process_events(self, event_list: object) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """There is nobody to wake: nothing runs outside the loop."""


def running() -> VirtualLoop:
    """Give the loop of the simulation that runs."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


def abandon(loop: VirtualLoop) -> None:
    """Close a loop and let go of what is left in it, without complaints."""
    for task in asyncio.all_tasks(loop):
        left: Any = task
        left._log_destroy_pending = False
    loop.close()
    # A task hashes by its number, so that those of old loops would collide with the next one's.
    known: Any = asyncio.tasks
    known._all_tasks.clear()
