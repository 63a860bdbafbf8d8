"""Does jobs as far as the data's owner allows, declines the rest, and lets nothing leave unrecorded."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import TypeVar

from fedbus_schemas.updates import Submission, ValidationReport

from fedbus._declining import Declining, request_of
from fedbus._jobs import Jobs, Withdrawal
from fedbus._participant import Job, TrainJob, ValidateJob
from fedbus._store import Kept
from fedbus._updates import Update
from fedbus.consent.guard import Guard
from fedbus.consent.policy import Denied, Limits, Request
from fedbus.errors import OverLimit

log = logging.getLogger("fedbus")

T = TypeVar("T")


class Consented:
    """Between the state machine, which takes tasks, and the jobs, which do them."""

    def __init__(
        self,
        jobs: Jobs,
        guard: Guard,
        declining: Declining,
        kept: Kept,
        project: str,
        spawn: Callable[[Coroutine[None, None, None]], object],
    ) -> None:
        self._jobs = jobs
        self._guard = guard
        self._declining = declining
        self._kept = kept
        self._project = project
        self._spawn = spawn

    async def train(
        self, job: TrainJob, client: str, withdrawal: Withdrawal, until: float
    ) -> Update | None:
        """Train if the policy allows it; None when there is no update to send."""
        update, denied = await self._within_policy(
            job, withdrawal, lambda: self._jobs.train(job, client, withdrawal)
        )
        if denied is None:
            return update
        if update is not None:
            self._kept.drop(update.key)
        self._spawn(self._declining.say(job, client, denied, until))
        return None

    async def validate(
        self, job: ValidateJob, client: str, withdrawal: Withdrawal, until: float
    ) -> ValidationReport | None:
        """Validate if the policy allows it; None when there is nothing to report."""
        report, denied = await self._within_policy(
            job, withdrawal, lambda: self._jobs.validate(job, withdrawal)
        )
        if denied is None:
            return report
        self._spawn(self._declining.say(job, client, denied, until))
        return None

    async def _within_policy(
        self, job: Job, withdrawal: Withdrawal, work: Callable[[], Awaitable[T | None]]
    ) -> tuple[T | None, Denied | None]:
        """Ask the policy, work within its limits, and write down how that ended.

        Gives the result, and what denies it: an update's bytes may be too many for the day.
        """
        request = request_of(job, self._project, self._jobs.code_of(job))
        verdict = self._guard.judge(request)
        if isinstance(verdict, Denied):
            return None, verdict
        watch = Watch(verdict.limits, withdrawal)
        made: T | None = None
        denied: Denied | None = None
        try:
            made = await work()
        except OverLimit as over:
            denied = Denied(over.rule, str(over))
        denied = watch.stop() or denied
        if denied is None and isinstance(made, Update):
            denied = self._guard.may_send(request, made.blob.size)
        self._guard.ended(request, watch.outcome(denied, done=made is not None), watch.seconds)
        return made, denied

    def update_may_leave(self, update: Update) -> bool:
        """Write down that an update is about to be sent; False when it must stay."""
        manifest = Submission.model_validate_json(update.submission).content()
        request = Request(
            kind="train",
            project=self._project,
            session=update.key.session,
            round=update.key.round,
            attempt=update.key.attempt,
        )
        return self._guard.leaving(
            request,
            digest=update.blob.digest,
            size=update.blob.size,
            keys=manifest.metrics,
            records=manifest.weight,
        )

    def report_may_leave(self, report: ValidationReport) -> bool:
        """Write down that a validation's numbers are about to be sent; False when they must stay."""
        request = Request(
            kind="validate", project=self._project, session=report.session, round=report.round
        )
        return self._guard.leaving(
            request,
            digest=report.model,
            size=len(report.to_bytes()),
            keys=report.metrics,
            records=report.weight,
        )


class Watch:
    """Ends a job that takes longer than the owner allows: its function is told to leave off."""

    def __init__(self, limits: Limits, withdrawal: Withdrawal) -> None:
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._withdrawal = withdrawal
        self._wall_s = limits.wall_s
        self._is_over = False
        self._timer: asyncio.TimerHandle | None = None
        if limits.wall_s is not None:
            self._timer = self._loop.call_later(limits.wall_s, self._end)

    @property
    def seconds(self) -> float:
        """How long the job took so far."""
        return self._loop.time() - self._began

    @property
    def was_withdrawn(self) -> bool:
        """Whether the job was told to leave off."""
        return self._withdrawal.is_said()

    def outcome(self, denied: Denied | None, *, done: bool) -> str:
        """Say for the task log how the job ended."""
        if denied is not None:
            return f"declined by {denied.rule}"
        if done:
            return "done"
        return "withdrawn" if self.was_withdrawn else "no result"

    def stop(self) -> Denied | None:
        """End the watch; say whether the time was used up."""
        if self._timer is not None:
            self._timer.cancel()
        if not self._is_over:
            return None
        return Denied("limits.wall_s", f"it took longer than {self._wall_s:g} s")

    def _end(self) -> None:
        if not self._withdrawal.is_said():
            self._is_over = True
            self._withdrawal.say()
