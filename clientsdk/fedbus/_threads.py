"""Work that must not run on the event loop: in daemon threads, so that stopping never waits for it."""

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


class Worker:
    """One daemon thread that runs one call after another. It begins with the first call.

    Always the same thread, because some frameworks keep state by thread.
    """

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    async def run(self, call: Callable[[], T]) -> T:
        """Run `call` in the thread and give what it returns or raises."""
        if not self._thread.is_alive():
            self._thread.start()
        outcome, done = _carried(call)
        self._calls.put(outcome)
        return await done

    def close(self, last: Callable[[], None] | None = None) -> None:
        """Let the thread end after the call that it is in, and after `last`. Does not wait."""
        if last is not None:
            if self._thread.ident is None:
                self._thread.start()
            self._calls.put(last)
        self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
            del call  # it holds a model, and the next call may be long in coming


async def run(call: Callable[[], T], name: str) -> T:
    """Run `call` in a thread of its own and give what it returns or raises."""
    outcome, done = _carried(call)
    threading.Thread(target=outcome, name=name, daemon=True).start()
    return await done


def _carried(call: Callable[[], T]) -> tuple[Callable[[], None], "asyncio.Future[T]"]:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if done.done():  # nobody waits any more
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]  # None only where T is None

    def outcome() -> None:
        result: T | None = None
        error: BaseException | None = None
        try:
            result = call()
        except StopIteration as stop:
            error = RuntimeError("the function raised StopIteration")
            error.__cause__ = stop
        except BaseException as raised:  # noqa: BLE001 carried over to whoever waits
            error = raised
        try:
            loop.call_soon_threadsafe(settle, result, error)
        except RuntimeError:  # the loop is closed: the client was stopped meanwhile
            return

    return outcome, done


class Stoppable:
    """A call in a thread of its own that learns when nobody waits for it any more."""

    def __init__(self, stop: Callable[[], bool] = lambda: False) -> None:
        self._left = threading.Event()
        self._stop = stop
        self._over: asyncio.Future[None] | None = None

    async def run(self, call: Callable[[Callable[[], bool]], T]) -> T:
        """Run `call(stop)`; its `stop()` turns True when this is cancelled."""
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()
        self._over = over

        def noted() -> T:
            try:
                return call(self._stopped)
            finally:
                with suppress(RuntimeError):  # the loop is closed: the client was stopped meanwhile
                    loop.call_soon_threadsafe(over.set_result, None)

        try:
            return await run(noted, "fedbus-transfer")
        finally:
            self._left.set()

    async def over(self) -> None:
        """Wait until the call is over, also when nobody waits for its result any more."""
        if self._over is not None:
            await asyncio.shield(self._over)

    def _stopped(self) -> bool:
        return self._left.is_set() or self._stop()
