"""A package that stays: its `startup(client)` ran once in a process of its own, which now does task after task.

The process is held by a keeper as every run of a package is, so it ends with the client, with a limit, and with
whatever it started. Methods block and may be called from several threads.
"""

import json
import logging
import queue
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass, field, replace
from math import inf, isinf
from pathlib import Path
from typing import Any

from fedbus.errors import BadRecord, BadResult, PackageFailed, TaskAborted
from fedbus.packages import inner
from fedbus.packages.containment import LOOK_S, Contained, Ended
from fedbus.packages.limits import RunLimits
from fedbus.packages.results import JSON_BYTES_MAX
from fedbus.recorder import Recorder

log = logging.getLogger("fedbus")

LOGS = frozenset(
    {"log_metric", "log_attributes", "log_telemetry", "log_inference_result", "log_event"}
)
"""What a package may have its client do."""
FOREVER_S = 10.0 * 365 * 86_400


@dataclass(frozen=True, slots=True)
class Asked:
    """A task for the package: what is given and made are files, the rest is JSON."""

    what: str
    given: Path | None = None
    made: Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class _Call:
    context: Context
    progress: Callable[[float, str], None]
    answers: "queue.SimpleQueue[dict[str, Any] | None]" = field(default_factory=queue.SimpleQueue)


class Service:
    """The process of one package."""

    def __init__(
        self,
        command: Sequence[str],
        facts: Mapping[str, str],
        recorder: Recorder,
        *,
        folder: Path,
        env: Mapping[str, str],
        watched: Sequence[Path],
        limits: RunLimits,
    ) -> None:
        """Begin the process. It is of use when `ready` has returned."""
        self._recorder = recorder
        self._limits = limits
        self._calls: dict[int, _Call] = {}
        self._count = 0
        self._lock = threading.Lock()
        self._ready: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._ended: Ended | None = None
        self._fault = ""
        self._is_gone = threading.Event()
        self.functions: frozenset[str] = frozenset()
        """What the package registered."""
        ours, theirs = socket.socketpair()
        with theirs:
            self._contained = Contained(
                command,
                folder=folder,
                env={**env, inner.CHANNEL: str(theirs.fileno())},
                watched=watched,
                limits=replace(limits, timeout_s=FOREVER_S, cpu_s=inf),
                passed=theirs.fileno(),
            )
        self._socket = ours
        self._say(facts)
        threading.Thread(target=self._listen, name="fedbus-package", daemon=True).start()

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked."""
        return not self._is_gone.is_set()

    def may_go_on(self, limits: RunLimits) -> bool:
        """Whether it can be asked, and lives within these limits."""
        return self.is_alive and self._limits == limits

    def ready(self, cancelled: Callable[[], bool]) -> None:
        """Wait until `startup` has returned. Raises `PackageFailed` and `TaskAborted`."""
        self._wait(self._ready, "startup", cancelled, lambda: None)

    def ask(
        self,
        asked: Asked,
        cancelled: Callable[[], bool],
        progress: Callable[[float, str], None] = lambda _fraction, _text: None,
    ) -> Any:
        """Have the package do a task; gives what its function said.

        Raises `PackageFailed` with its own error line, and `TaskAborted` when the task was withdrawn: the
        function is told first, and its process ended when it does not listen.
        """
        call = _Call(copy_context(), progress)
        with self._lock:
            self._count += 1
            number = self._count
            self._calls[number] = call
        try:
            self._say({"call": number, **_message(asked)})
            answer = self._wait(
                call.answers, asked.what, cancelled, lambda: self._say({"abort": number})
            )
        finally:
            self._calls.pop(number, None)
        if "aborted" in answer:
            raise TaskAborted(f"{asked.what}: the package gave up, as its task was withdrawn")
        if "failed" in answer:
            log.debug("%s: %s", asked.what, answer.get("trace", ""))
            raise PackageFailed(f"function {asked.what}", "it failed", str(answer["failed"]))
        return answer.get("told")

    def close(self) -> None:
        """End the process and all that it started. Waits for that."""
        self._contained.stop()
        self._is_gone.wait(self._limits.grace_s + LOOK_S * 100)

    def _wait(
        self,
        answers: "queue.SimpleQueue[Any]",
        what: str,
        cancelled: Callable[[], bool],
        abort: Callable[[], None],
    ) -> Any:
        """Wait for an answer, within the limits."""
        until = time.monotonic() + self._limits.timeout_s
        computed_s = self._computed_s()
        told_at: float | None = None
        while True:
            try:
                answer = answers.get(timeout=LOOK_S)
            except queue.Empty:
                answer = None
            if answer is not None:
                return answer
            now = time.monotonic()
            if self._is_gone.is_set():
                self._fail(what, was_withdrawn=told_at is not None)
            if told_at is None and cancelled():
                told_at = now
                abort()
            if told_at is not None and now > told_at + self._limits.grace_s:
                self.close()
                raise TaskAborted(f"{what}: its task was withdrawn, and the package was ended")
            if now > until:
                self._end_for("timeout", what)
            if self._computed_s() - computed_s > self._limits.cpu_s:
                self._end_for("cpu", what)

    def _computed_s(self) -> float:
        """How long its processes have computed, where that is limited."""
        return 0.0 if isinf(self._limits.cpu_s) else self._contained.cpu_s()

    def _end_for(self, how: str, what: str) -> None:
        self.close()
        ended = self._ended or Ended(how, None, "", "", 0.0)
        replace(ended, how=how).demand_well(what, self._limits)

    def _fail(self, what: str, *, was_withdrawn: bool) -> None:
        ended = self._ended
        assert ended is not None, "known before it is gone"
        if self._fault:
            raise PackageFailed(what, self._fault)
        if was_withdrawn:
            raise TaskAborted(f"{what}: its task was withdrawn, and the package ended")
        ended.demand_well(what, self._limits)
        raise PackageFailed(what, "the package ended by itself", ended.line)

    def _say(self, message: Mapping[str, object]) -> None:
        try:
            data = json.dumps(message, allow_nan=False).encode() + b"\n"
        except (TypeError, ValueError) as error:
            raise BadResult(f"the settings cannot be given to a package: {error}") from error
        try:
            with self._lock:
                self._socket.sendall(data)
        except OSError:
            log.debug("the package does not listen any more")

    def _listen(self) -> None:
        """Hear the package until it is gone. In a thread of its own."""
        with self._socket.makefile("rb") as lines:
            try:
                while line := lines.readline(JSON_BYTES_MAX + 1):
                    if not line.endswith(b"\n"):
                        raise ValueError("a message is too long")
                    self._hear(json.loads(line))
            except (ValueError, TypeError, AttributeError, RecursionError, OSError) as error:
                self._fault = f"it said what is no message, and was ended ({error})"
                self._contained.stop()
        self._ended = self._contained.wait()
        self._is_gone.set()
        self._socket.close()
        for call in list(self._calls.values()):
            call.answers.put(None)

    def _hear(self, message: dict[str, Any]) -> None:
        if "log" in message:
            call = self._calls.get(message["call"])
            context = copy_context() if call is None else call.context
            context.run(self._log, str(message["log"]), message["arguments"], call)
        elif "ready" in message:
            self._ready.put("ready")
        elif "functions" in message:
            self.functions = frozenset(map(str, message["functions"]))
        else:
            asked = self._calls.get(message["call"])
            if asked is not None:
                asked.answers.put(message)

    def _log(self, what: str, arguments: dict[str, Any], call: _Call | None) -> None:
        if what == "progress" and call is not None:
            call.progress(float(arguments["fraction"]), str(arguments["text"]))
        elif what in LOGS:
            try:
                getattr(self._recorder, what)(**arguments)
            except (BadRecord, TypeError) as error:
                log.warning("a package logged what cannot be sent: %s", error)


def _message(asked: Asked) -> dict[str, object]:
    return {
        "what": asked.what,
        "given": None if asked.given is None else str(asked.given),
        "made": None if asked.made is None else str(asked.made),
        "settings": dict(asked.settings),
        "facts": dict(asked.facts),
    }
