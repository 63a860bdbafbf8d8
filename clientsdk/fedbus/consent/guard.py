"""Stands between what servers ask and what this site does: asks the policy, and writes down what it said."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from fedbus.consent.policy import (
    WITHOUT_A_FILE,
    Allowed,
    Denied,
    Limits,
    Loggable,
    Policy,
    Request,
    Verdict,
    decide,
    over_a_day,
)
from fedbus.consent.policyfile import PolicyFile
from fedbus.consent.tasklog import NAME, TaskLog, Value
from fedbus.errors import BadOption
from fedbus.options import Options

log = logging.getLogger("fedbus")


class Guard:
    """One client's policy and task log. The event loop's only; each call does one small read or write."""

    def __init__(self, policy: PolicyFile | None, tasks: TaskLog) -> None:
        self._file = policy
        self._tasks = tasks
        self._policy: Policy = WITHOUT_A_FILE if policy is None else Policy()
        self._current()

    def judge(self, request: Request) -> Verdict:
        """Decide on a task before anything of it is fetched or run. Never raises.

        A task that cannot be written down is declined: the owner would not know of it.
        """
        now = _now()
        asked = replace(request, now=now, sent_bytes=self._tasks.sent(now.date()))
        policy = self._current()
        verdict = policy if isinstance(policy, Denied) else decide(policy, asked)
        try:
            self._write("asked", asked, **_told(verdict))
        except OSError as error:
            log.error("%s: the task log cannot be written: %s", asked, error)
            verdict = Denied("log.unwritable", "the task could not be written to the local log")
        if isinstance(verdict, Denied):
            log.warning("%s: declined by %s: %s", asked, verdict.rule, verdict.detail)
        return verdict

    def may_send(self, request: Request, size: int) -> Denied | None:
        """Ask whether a finished result of this size may leave today."""
        denied = over_a_day(self._policy, self._tasks.sent(_now().date()), size)
        if denied is not None:
            log.warning("%s: not sent, by %s: %s", request, denied.rule, denied.detail)
        return denied

    def leaving(
        self, request: Request, *, digest: str, size: int, keys: Iterable[str], records: int
    ) -> bool:
        """Write down what is about to leave; False, and it must stay, when that cannot be written."""
        try:
            self._tasks.count(_now().date(), size)
            self._write(
                "leaves", request, digest=digest, bytes=size, keys=sorted(keys), records=records
            )
        except OSError as error:
            log.error("%s: nothing is sent, the task log cannot be written: %s", request, error)
            return False
        return True

    def ended(self, request: Request, outcome: str, seconds: float) -> None:
        """Write down how a task ended."""
        try:
            self._write("ended", request, outcome=outcome, seconds=round(seconds, 3))
        except OSError as error:
            log.error("%s: the task log cannot be written: %s", request, error)

    def metrics(self, found: Mapping[str, float]) -> dict[str, float]:
        """Leave out the metrics that may not leave."""
        return {name: value for name, value in found.items() if self.may_leave("metrics", name)}

    def limits(self) -> Limits:
        """What a task may use now. From any thread."""
        return self._policy.limits

    def may_leave(self, what: Loggable, key: str) -> bool:
        """Whether a value with this key may be sent; events have none. From any thread."""
        return self._policy.outgoing.may_leave(what, key)

    def _current(self) -> Policy | Denied:
        if self._file is None:
            return self._policy
        policy, changed = self._file.current()
        if isinstance(policy, Policy):
            self._policy = policy
        if changed:
            log.info("the policy %s has changed and is in force", self._file.path)
        return policy

    def _write(self, what: str, request: Request, **more: Value) -> None:
        fields: dict[str, Value] = {
            "task": request.kind,
            "project": request.project,
            "session": request.session,
            "round": request.round,
            "attempt": request.attempt,
            "command": request.command,
        }
        if what == "asked":
            fields |= {
                "model": request.model,
                "cohort": request.cohort,
                "package": request.package.digest or request.package.origin,
            }
        self._tasks.write(what, _now(), fields | more)


def guard_of(options: Options, device: str) -> Guard:
    """Make a client's guard. Raises `BadPolicy` and `BadOption`."""
    if options.policy is None:
        log.debug("no policy file: this client does every task that its project asks")
    policy = None if options.policy is None else PolicyFile(Path(options.policy))
    path = None if options.state_dir is None else Path(options.state_dir) / device / NAME
    try:
        tasks = TaskLog(path, options.task_log_bytes_max, options.task_log_files_max)
    except OSError as error:
        raise BadOption(
            f"state_dir {options.state_dir} cannot be used: the task log {path}: {error}"
        ) from error
    return Guard(policy, tasks)


def _told(verdict: Verdict) -> dict[str, Value]:
    match verdict:
        case Allowed():
            return {"verdict": "allowed"}
        case Denied(rule, detail):
            return {"verdict": "denied", "rule": rule, "detail": detail}


def _now() -> datetime:
    """The time where the data is: with a time zone, so that a line means one moment."""
    return datetime.now().astimezone()  # noqa: TID251  # this machine's zone is meant
