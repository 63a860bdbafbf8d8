"""Does one job: gets its model, calls the user's function in the compute thread, makes the result."""

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TypeVar

from fedbus_schemas.asks import GrantRequest
from fedbus_schemas.models import BlobRef
from fedbus_schemas.records import TEXT_MAX
from fedbus_schemas.tasks import ModelToFetch, TrainTask, ValidateTask
from fedbus_schemas.traces import ClientWork
from fedbus_schemas.updates import Timings, ValidationReport

from fedbus import _spans, _threads, _updates, _work
from fedbus._blobs import Stopped
from fedbus._context import Place, RunningTask
from fedbus._fetching import Fetcher
from fedbus._keys import Keys
from fedbus._participant import TrainJob, ValidateJob
from fedbus._store import Kept, in_memory
from fedbus._turns import Turns
from fedbus._updates import Update
from fedbus.consent.policy import LOCAL, Package
from fedbus.errors import BadPackage, FedbusError, OverLimit, PackageFailed, TaskAborted
from fedbus.recorder import Recorder
from fedbus.trainer import Packages, Settings, Trainer

log = logging.getLogger("fedbus")

T = TypeVar("T")


class Withdrawal:
    """How a job learns that it was withdrawn: in the loop, and in its threads."""

    def __init__(self) -> None:
        self._said = threading.Event()
        self._waiting: asyncio.Timeout | None = None

    def is_said(self) -> bool:
        """Whether the job was withdrawn. From any thread."""
        return self._said.is_set()

    def say(self) -> None:
        """Withdraw the job. A second time changes nothing."""
        if self._said.is_set():
            return
        self._said.set()
        if self._waiting is not None:
            self._waiting.reschedule(0)

    async def unless_said(self, work: Awaitable[T]) -> T | None:
        """Wait for `work`, but no longer than until the job is withdrawn; None then."""
        try:
            async with asyncio.timeout(None) as self._waiting:
                if self.is_said():
                    self._waiting.reschedule(0)
                return await work
        except TimeoutError:
            if not self.is_said():
                raise
            return None
        finally:
            self._waiting = None


class Jobs:
    """Does jobs, one at a time."""

    def __init__(
        self,
        trainer: Trainer | Packages,
        *,
        project: str,
        keys: Keys,
        fetcher: Fetcher,
        package_fetcher: Fetcher,
        kept: Kept,
        patience_s: float,
        recorder: Recorder,
        place: Place,
        turns: Turns,
        metrics: Callable[[Mapping[str, float]], dict[str, float]],
    ) -> None:
        self._trainer = trainer
        self._project = project
        self._keys = keys
        self._fetcher = fetcher
        self._package_fetcher = package_fetcher
        self._kept = kept
        self._patience_s = patience_s
        self._recorder = recorder
        self._place = place
        self._turns = turns
        self._metrics = metrics
        self._compute = _threads.Worker("fedbus-compute")

    def close(self) -> None:
        """Let the compute thread end after the call that it is in. Does not wait."""
        self._compute.close(None if isinstance(self._trainer, Trainer) else self._trainer.end)

    def code_of(self, job: TrainJob | ValidateJob) -> Package:
        """Say whose code a job would run."""
        blob = job.task.package
        if isinstance(self._trainer, Trainer) or self._trainer.is_local or blob is None:
            return LOCAL
        signatures = blob.signatures or ()
        return Package.remote(blob.digest, [(one.key, one.signature) for one in signatures])

    def budget_s(self, task: TrainTask) -> float:
        """How long to go on trying to work on a task.

        The deadline is the server's clock: a wrong clock here must not end the work at once.
        """
        return max(task.deadline.timestamp() - time.time(), self._patience_s)

    async def train(self, job: TrainJob, client: str, withdrawal: Withdrawal) -> Update | None:
        """Train. None, and a line in the log, when there is no update. Raises `OverLimit`."""
        return await self._tried(
            job, str(job.key), "no update", self._train(job, client, withdrawal)
        )

    async def validate(self, job: ValidateJob, withdrawal: Withdrawal) -> ValidationReport | None:
        """Validate. None, and a line in the log, when there is no report. Raises `OverLimit`."""
        place = f"{job.session} round {job.task.round}"
        return await self._tried(
            job, place, "no validation", self._validate(job, place, withdrawal)
        )

    async def _tried(
        self, job: TrainJob | ValidateJob, place: str, without: str, work: Awaitable[T | None]
    ) -> T | None:
        """Give what the work makes; None, with a line in the log, when it makes nothing."""
        try:
            return await work
        except OverLimit:
            raise
        except Stopped:
            log.debug("%s: the download was given up", place)
        except TaskAborted:
            log.info("%s: the function gave up, as the task was withdrawn", place)
        except FedbusError as error:
            complain(f"{place}: {without}", error)
            self._tell(job, error)
        return None

    def _tell(self, job: TrainJob | ValidateJob, error: FedbusError) -> None:
        """Let the servers know in a package's own words why it gave nothing, if the owner lets lines leave."""
        if isinstance(error, BadPackage | PackageFailed):
            task = RunningTask(job.session, job.task.round, job.task.model.digest)
            with self._place.during(task):
                self._recorder.log_event(f"{job.task.kind}: {error}"[:TEXT_MAX], "error")

    async def _train(self, job: TrainJob, client: str, withdrawal: Withdrawal) -> Update | None:
        task = job.task
        log.info("%s: training", job.key)
        started = time.monotonic()
        budget_s = self.budget_s(task)
        trainer = await self._trainer_of(job, task.attempt, budget_s, withdrawal)
        if trainer is None:
            return None
        data = await self._fetch(job.session, task, task.attempt, budget_s, withdrawal)
        if data is None:
            return None
        download_s = time.monotonic() - started
        settings = Settings(
            task.settings,
            seed=task.seed,
            round=task.round,
            session=job.session,
            attempt=task.attempt,
            model=task.model.digest,
            deadline=task.deadline,
            cancelled=withdrawal.is_said,
            client=self._recorder,
        )
        make = partial(self._make, trainer, job, client, data, settings, download_s)
        async with self._turns.turn(withdrawal) as ours:
            if not ours:
                return None
            with _spans.timed(ClientWork.TRAIN):
                return await self._compute.run(make)

    def _make(
        self,
        trainer: Trainer,
        job: TrainJob,
        client: str,
        data: bytes | bytearray,
        settings: Settings,
        download_s: float,
    ) -> Update | None:
        """Train, and keep the update so that it survives a restart. In the compute thread."""
        with self._place.during(_running(settings, job)):
            timed = _work.train(trainer.train, data, settings, job.task.weight_max)
        if timed is None:
            return None
        _tell_left_out(job.key, timed.trained.left_out)
        trained = replace(timed.trained, metrics=self._metrics(timed.trained.metrics))
        update = _updates.make(
            project=self._project,
            session=job.session,
            client=client,
            task=job.task,
            trained=trained,
            timings=Timings(download_s=download_s, train_s=timed.train_s),
            public_key=self._keys.public,
            sign=self._keys.sign,
        )
        try:
            return self._kept.keep(update)
        except OSError as error:
            log.warning("%s: cannot keep the update in the state folder: %s", job.key, error)
            return in_memory(update)

    async def _validate(
        self, job: ValidateJob, place: str, withdrawal: Withdrawal
    ) -> ValidationReport | None:
        task = job.task
        trainer = await self._trainer_of(job, 1, self._patience_s, withdrawal)
        function = None if trainer is None else trainer.validate
        if function is None:
            return None
        data = await self._fetch(job.session, task, 1, self._patience_s, withdrawal)
        if data is None:
            return None
        settings = Settings(
            task.settings,
            round=task.round,
            session=job.session,
            model=task.model.digest,
            cancelled=withdrawal.is_said,
            client=self._recorder,
        )

        def call() -> _updates.Measured:
            with self._place.during(_running(settings, job)):
                return _work.validate(function, data, settings)

        async with self._turns.turn(withdrawal) as ours:
            if not ours:
                return None
            with _spans.timed(ClientWork.VALIDATE):
                measured = await self._compute.run(call)
        _tell_left_out(place, measured.left_out)
        return ValidationReport(
            session=job.session,
            round=task.round,
            model=task.model.digest,
            weight=measured.weight,
            metrics=self._metrics(measured.metrics),
        )

    async def _trainer_of(
        self, job: TrainJob | ValidateJob, attempt: int, budget_s: float, withdrawal: Withdrawal
    ) -> Trainer | None:
        """Give the functions for a job; those of a package are fetched first. None when withdrawn."""
        packages, blob = self._trainer, job.task.package
        if isinstance(packages, Trainer):
            return packages
        if packages.is_local:
            return await self._compute.run(lambda: packages.trainer("", None, withdrawal.is_said))
        if blob is None:
            raise BadPackage(
                "the session pins no compute package, and this client runs nothing else"
            )
        archive: bytes | bytearray | None = None
        if not await self._compute.run(lambda: packages.has(blob.digest)):
            request = GrantRequest(
                purpose="package",
                session=job.session,
                round=job.task.round,
                attempt=attempt,
                blob=blob,
            )
            fetching = self._package_fetcher.fetch(
                ModelToFetch(digest=blob.digest, size=blob.size),
                request,
                until=asyncio.get_running_loop().time() + budget_s,
                stop=withdrawal.is_said,
                trace_id=job.task.trace_id,
            )
            archive = await withdrawal.unless_said(fetching)
            if archive is None:
                return None
        make = partial(packages.trainer, blob.digest, archive, withdrawal.is_said)
        return await self._compute.run(make)

    async def _fetch(
        self,
        session: str,
        task: TrainTask | ValidateTask,
        attempt: int,
        budget_s: float,
        withdrawal: Withdrawal,
    ) -> bytes | bytearray | None:
        request = GrantRequest(
            purpose="download",
            session=session,
            round=task.round,
            attempt=attempt,
            blob=BlobRef(digest=task.model.digest, size=task.model.size),
        )
        fetching = self._fetcher.fetch(
            task.model,
            request,
            until=asyncio.get_running_loop().time() + budget_s,
            stop=withdrawal.is_said,
            trace_id=task.trace_id,
        )
        with _spans.timed(ClientWork.DOWNLOAD):
            return await withdrawal.unless_said(fetching)


def _running(settings: Settings, job: TrainJob | ValidateJob) -> RunningTask:
    return RunningTask(job.session, job.task.round, job.task.model.digest, settings.cancelled)


def complain(what: str, error: FedbusError) -> None:
    """Log why there is no result; with the traceback where the user's own function raised."""
    cause = error.__cause__
    if isinstance(error, _work.FunctionFailed) and cause is not None and cause.__traceback__:
        # Without our own frame above the function.
        trace = (type(cause), cause, cause.__traceback__.tb_next)
        log.error("%s: the function failed: %s", what, error, exc_info=trace)
    else:
        log.error("%s: %s", what, error)


def _tell_left_out(what: object, names: tuple[str, ...]) -> None:
    if names:
        log.warning("%s: left out metrics that are NaN or infinite: %s", what, ", ".join(names))
