"""What a client logs: metrics, attributes, telemetry, inference results, events.

Every call may be made from any thread of the client's process. It checks what it is given, writes it to the
outbox and returns; it never waits for a server.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from fedbus_schemas.records import LinkQuality

from fedbus import _records
from fedbus._context import Place
from fedbus._outbox import Outbox, OutboxClosed, Waiting
from fedbus.consent.policy import Keyed, Loggable
from fedbus.errors import BadRecord, TaskAborted
from fedbus.priorities import CLASSES, PriorityClass

log = logging.getLogger("fedbus")


class Recorder:
    """Logs for one client. Every `fedbus.Client` is one, and `settings.client` is it in your functions.

    One made by itself checks and counts, and sends nothing: so a function can be tried without a
    federation.

    ```python
    from fedbus import Recorder

    recorder = Recorder()
    recorder.log_metric({"loss": 0.5})
    recorder.log_attributes({"site": "eu", "gpu": 2})
    recorder.log_telemetry("battery", {"volts": 3.7, "cells": [1, 2]})
    ```
    """

    def __init__(self, place: Place | None = None) -> None:
        self._place = place or Place()
        self._recording = threading.RLock()
        self._box: Outbox | None = None
        self._step = 0
        self._news: Callable[[], None] = lambda: None
        self._unfit: set[str] = set()

    def log_metric(
        self,
        metrics: Mapping[str, Any],
        step: int | None = None,
        commit: bool = True,  # as Scaleout's users write it
        *,
        priority: str = "artifact",
        check_task_abort: bool = False,
    ) -> None:
        """Log numbers measured together, tied to the session, round and model of the running task.

        Without a `step` the client's own count is used; `commit` ends the step, so that the next call
        without one counts on. Numbers that are NaN or infinite are left out, with a warning. Raises
        `BadRecord`; with `check_task_abort` also `TaskAborted`.
        """
        if check_task_abort:
            self.check_task_abort()
        if step is not None and (isinstance(step, bool) or not isinstance(step, int) or step < 0):
            raise BadRecord(f"step must be a whole number from 0 on, not {step!r}")
        with self._recording:
            box = self._outbox()
            now = self._step if box is None else box.step
            at = now if step is None else step
            listed = self._listed("metrics", metrics)
            task = self._place.task()
            content, left_out = _records.metrics(listed or metrics, at, time.time(), task)
            self._tell(left_out)
            following = at + 1 if commit else at
            if box is None:
                self._step = following
            elif content and listed:
                self._put(box, priority, content, step=following)

    def log_attributes(
        self,
        attributes: Mapping[str, Any],
        *,
        priority: str = "artifact",
        check_task_abort: bool = False,
    ) -> None:
        """Say what this client is like from now on: texts, numbers, true or false by name; None takes one away.

        The servers keep the history and choose clients by the present ones. Raises `BadRecord`.
        """
        listed = self._listed("attributes", attributes)
        content = _records.attributes(listed or attributes, time.time())
        self._log(content if listed else b"", priority, check_task_abort)

    def log_telemetry(
        self,
        key: str,
        payload: Any,
        *,
        priority: str = "telemetry",
        check_task_abort: bool = False,
    ) -> None:
        """Log any JSON under a key; numpy's numbers and arrays are taken, too. Raises `BadRecord`."""
        content = _records.telemetry(key, payload, time.time())
        self._log(content if self._may_leave("telemetry", key) else b"", priority, check_task_abort)

    def log_inference_result(
        self,
        key: str,
        payload: Any,
        *,
        priority: str = "inference",
        check_task_abort: bool = False,
    ) -> None:
        """Log what a model answered here: any JSON, tied to the running task. Raises `BadRecord`."""
        content = _records.result(key, payload, time.time(), self._place.task())
        self._log(content if self._may_leave("results", key) else b"", priority, check_task_abort)

    def log_event(
        self,
        text: str,
        level: str = "info",
        *,
        priority: str = "artifact",
        check_task_abort: bool = False,
    ) -> None:
        """Log a line for people, at level debug, info, warning, error or audit. Raises `BadRecord`."""
        content = _records.event(text, level, time.time(), self._place.task())
        self._log(content if self._may_leave("events", "") else b"", priority, check_task_abort)

    def check_task_abort(self) -> None:
        """Raise `TaskAborted` when the running task was withdrawn. Otherwise do nothing."""
        task = self._place.task()
        if task is not None and task.withdrawn():
            place = f"{task.session} round {task.round}" if task.session else "command"
            raise TaskAborted(f"{place}: the task was withdrawn")

    def priority_classes(self) -> tuple[PriorityClass, ...]:
        """Give the priority classes, the highest first."""
        box = self._outbox()
        return CLASSES if box is None else box.priorities.all()

    def add_priority_class(self, one: PriorityClass) -> None:
        """Add a class, for `priority=`. Raises `BadOption` when there is one of this name."""
        self._change(lambda box: box.change_classes(lambda classes: classes.add(one)))

    def replace_priority_class(self, one: PriorityClass) -> None:
        """Replace the class of this name. Raises `BadOption` when there is none."""
        self._change(lambda box: box.change_classes(lambda classes: classes.replace(one)))

    def remove_priority_class(self, name: str) -> None:
        """Take a class away; its records go as `default`. Raises `BadOption`."""
        self._change(lambda box: box.change_classes(lambda classes: classes.remove(name)))

    def backlog(self) -> Waiting:
        """Say what waits to be sent."""
        box = self._outbox()
        return Waiting(0, 0, 0, 0.0) if box is None else box.waiting()

    @property
    def link_quality(self) -> LinkQuality:
        """How good the link to the bus is now."""
        return LinkQuality.OFFLINE

    def _outbox(self) -> Outbox | None:
        """Give the outbox; None = what is logged goes nowhere."""
        return self._box

    def _may_leave(self, what: Loggable, key: str) -> bool:
        """Whether the data's owner lets this be sent; what may not is checked, and then left out."""
        return True

    def _listed(self, what: Keyed, given: Mapping[str, Any]) -> Mapping[str, Any]:
        if not isinstance(given, Mapping):
            return given  # the check says what is wrong
        return {key: value for key, value in given.items() if self._may_leave(what, str(key))}

    def _log(self, content: bytes, priority: str, check_task_abort: bool) -> None:
        if check_task_abort:
            self.check_task_abort()
        box = self._outbox()
        if box is not None and content:
            self._put(box, priority, content)

    def _put(self, box: Outbox, priority: str, content: bytes, *, step: int | None = None) -> None:
        try:
            box.put(priority, content, step=step)
        except OutboxClosed:
            log.debug("the client has stopped: what is logged now is left out")
        else:
            self._news()

    def _change(self, change: Callable[[Outbox], None]) -> None:
        box = self._outbox()
        if box is not None:
            change(box)

    def _tell(self, left_out: list[str]) -> None:
        """Warn of each name once: a training that diverges would fill the log."""
        news = [name for name in left_out if name not in self._unfit][:64]
        if news:
            self._unfit.update(news)
            log.warning("left out metrics that are NaN or infinite: %s", ", ".join(news))
