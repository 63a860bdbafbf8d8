"""Which task a function runs for: known in its own thread, and guessed in the threads that it starts."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RunningTask:
    """A task while its function runs. `model` is the SHA-256 of the model it was given.

    A command's has no session and no round.
    """

    session: str | None
    round: int | None
    model: str | None
    withdrawn: Callable[[], bool] = lambda: False


_own: ContextVar[RunningTask | None] = ContextVar("fedbus_running_task", default=None)


class Place:
    """Where a client's tasks run.

    A thread that a function starts inherits no context; there the task begun last is meant.
    """

    def __init__(self) -> None:
        self._latest: RunningTask | None = None

    @contextmanager
    def during(self, task: RunningTask) -> Iterator[None]:
        """Say that this task runs here."""
        before, self._latest = self._latest, task
        try:
            with self.beside(task):
                yield
        finally:
            self._latest = before

    @contextmanager
    def beside(self, task: RunningTask) -> Iterator[None]:
        """Say that this task runs in this thread, beside the ones begun elsewhere."""
        token = _own.set(task)
        try:
            yield
        finally:
            _own.reset(token)

    def task(self) -> RunningTask | None:
        """Give the task that runs, if one does."""
        return _own.get() or self._latest
