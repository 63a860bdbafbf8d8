"""A client while it runs: carries out what the state machine says, on the bus, the store and the functions."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import TypeVar, assert_never

from fedbus_schemas import signing
from fedbus_schemas.asks import COMMANDS_MAX, Beat, Hello, Sync, Welcome
from fedbus_schemas.credentials import Credentials
from fedbus_schemas.refusals import Refusal, RefusalCode
from fedbus_schemas.tasks import CommandMail, Mail
from fedbus_schemas.updates import ValidationReport

from fedbus import _backoff, _host, _opening, _spans, _threads
from fedbus._asking import OPEN_SOON, Asker, Line
from fedbus._blobs import Blobs, Store
from fedbus._commands import CommandRuns
from fedbus._consented import Consented
from fedbus._content import ContentGone
from fedbus._declining import Declining
from fedbus._endings import Endings
from fedbus._fetching import Fetcher
from fedbus._jobs import Jobs, Withdrawal
from fedbus._keys import Keys
from fedbus._mail import Letterbox
from fedbus._models import Models
from fedbus._participant import (
    Action,
    Cancel,
    Drop,
    Job,
    Note,
    Participant,
    Send,
    Start,
    Tell,
    TrainJob,
    ValidateJob,
)
from fedbus._reporting import Desk
from fedbus._sending import Sender
from fedbus._spans import Spans
from fedbus._turns import Turns, folder_of
from fedbus._updates import Update, UpdateKey
from fedbus._uploading import Uploader
from fedbus._version import __version__
from fedbus.consent.guard import Guard
from fedbus.errors import Away, BusAway, FedbusError, NotPermitted, Refused, refused
from fedbus.options import Options
from fedbus.trainer import Packages, Trainer

log = logging.getLogger("fedbus")

GOODBYE_WITHIN_S = 1.0

T = TypeVar("T")

PACKAGE_BYTES_MAX = 256 * 1024**2
"""The largest compute package that is fetched."""


class Participation:
    """A client while it runs."""

    def __init__(
        self,
        trainer: Trainer | Packages,
        options: Options,
        credentials: Credentials,
        keys: Keys,
        line: Line,
        fail: Callable[[FedbusError], None],
        guard: Guard,
        desk: Desk,
        store: Store | None = None,
    ) -> None:
        self._options = options
        self._credentials = credentials
        self._keys = keys
        self._line = line
        self._fail = fail
        self._recorder = desk.recorder
        self._reporting = desk.reporting
        self._client = ""
        self._letterbox = Letterbox(keys, credentials.project)
        self._asker = Asker(line, options)
        self._endings = Endings(line, self._spawn)
        self._blobs: Store = store or Blobs(options.store_timeout_s)
        self._kept = _opening.kept(options, keys.device)
        if not isinstance(trainer, Trainer):
            trainer.begin(credentials.name, keys.device, desk.recorder, guard.limits)
        fetcher = self._fetcher(_opening.models(options, keys.device), options.model_bytes_max)
        turns = Turns(folder_of(options.compute_lock), credentials.name)
        self._commands = CommandRuns(
            trainer,
            self._asker,
            fetcher,
            self._blobs,
            self._spawn,
            options.patience_s,
            guard,
            desk,
            turns,
        )
        self._jobs = Jobs(
            trainer,
            project=credentials.project,
            keys=keys,
            fetcher=fetcher,
            package_fetcher=self._fetcher(Models(None, 1), PACKAGE_BYTES_MAX),
            kept=self._kept,
            patience_s=options.patience_s,
            recorder=desk.recorder,
            place=desk.place,
            turns=turns,
            metrics=guard.metrics,
        )
        self._consented = Consented(
            self._jobs,
            guard,
            Declining(self._asker, keys, credentials.project),
            self._kept,
            credentials.project,
            self._spawn,
        )
        self._sender = Sender(
            self._asker,
            Uploader(self._asker, self._blobs, _opening.link(options, keys.device)),
            self._kept,
            patience_s=options.patience_s,
            given_up=self._endings.give_up,
        )
        self._participant = Participant(
            kept_max=options.kept_updates_max,
            validates=not isinstance(trainer, Trainer) or trainer.validate is not None,
        )
        self._withdrawal = Withdrawal()
        self._sending: dict[UpdateKey, asyncio.Task[None]] = {}
        self._open: dict[UpdateKey, tuple[float, Spans]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._over = False

    async def begin(self, group: asyncio.TaskGroup) -> None:
        """Bring back what an earlier run kept, then connect."""
        self._group = group
        kept = await _threads.run(self._kept.load, "fedbus-state")
        self._do(self._participant.on_restored(kept))
        if kept:
            log.info("%d updates of an earlier run wait for their receipt", len(kept))
        self._spawn(self._line.serve(self._hear, self._attend))
        self._spawn(self._reporting.keep())
        if self._options.host_telemetry_s is not None:
            self._spawn(_host.watch(self._recorder, self._options.host_telemetry_s))

    def end(self) -> None:
        """Let everything know that it is over. Waits for nothing; a second time changes nothing."""
        self._over = True
        self._endings.close()
        self._withdrawal.say()
        self._jobs.close()
        self._commands.close()
        self._blobs.close()

    async def leave(self) -> None:
        """Say goodbye, so that no round counts on us. Unheard, the servers find out by themselves."""
        if not self._client:
            return
        try:
            async with asyncio.timeout(GOODBYE_WITHIN_S):
                await self._line.ask("beat", Beat(leaving=True).to_bytes())
        except (BusAway, NotPermitted, TimeoutError) as error:
            log.debug("goodbye: %s", error)

    # On the bus.

    async def _attend(self) -> None:
        try:
            while not self._over:
                welcome = await self._hello()
                if await self._sync():
                    async with self._reporting.sending(self._asker):
                        await self._beat(welcome.beat_s)
                await asyncio.sleep(_backoff.spread(self._options.backoff_min_s))
        except (Refused, NotPermitted) as error:
            self._fail(error)
        finally:
            self._reporting.watch.offline()

    async def _hello(self) -> Welcome:
        keys = self._keys
        hello = Hello(
            name=self._credentials.name,
            key=keys.public,
            proof=keys.sign(signing.HELLO, keys.device),
            sdk=f"fedbus-python/{__version__}",
        )
        while True:
            # A bus that knew us once is only misconfigured for a while.
            answer = await self._asker.insist("hello", hello, forbidden_ends=not self._client)
            if answer.refusal is not None:
                raise refused(answer.refusal)
            if answer.welcome is not None:
                break
            await asyncio.sleep(self._options.backoff_max_s)
        if self._client != answer.welcome.client:
            self._client = answer.welcome.client
            log.info(
                "connected to project %s as %s (%s)",
                self._credentials.project,
                self._credentials.name,
                self._client,
            )
        return answer.welcome

    async def _sync(self) -> bool:
        """Ask for the open tasks; False when the servers do not know us any more."""
        answer = await self._asker.insist("sync", self._asked())
        if answer.synced is not None:
            mail = [self._letterbox.opened(one, self._client) for one in answer.synced.mail]
            of_sessions = [one for one in mail if isinstance(one, Mail)]
            self._do(self._participant.on_synced(of_sessions, answer.synced.receipts))
            self._commands.ended(answer.synced.ended)
            for one in mail:
                if isinstance(one, CommandMail):
                    self._commands.hear(one)
            return True
        said = "nothing" if answer.refusal is None else answer.refusal.code
        log.warning("could not ask for the open tasks: the answer was %s", said)
        return said is not RefusalCode.CLIENT_UNKNOWN

    def _asked(self) -> Sync:
        commands = self._commands.working()[:COMMANDS_MAX]
        return Sync(pending=self._participant.pending(), commands=commands)

    async def _beat(self, beat_s: float) -> None:
        """Say regularly that we are here; returns when the servers do not know us any more."""
        loop = asyncio.get_running_loop()
        sync_at = loop.time() + _backoff.spread(self._options.resync_s)
        while True:
            await asyncio.sleep(_backoff.spread(min(beat_s, self._options.resync_s)))
            if self._over:
                return
            if loop.time() >= sync_at:
                if not await self._sync():
                    return
                sync_at = loop.time() + _backoff.spread(self._options.resync_s)
            beat = Beat(backlog=await self._reporting.report())
            asked_at = loop.time()
            try:
                answer = await self._line.ask("beat", beat.to_bytes())
            except (BusAway, NotPermitted) as error:
                log.debug("heartbeat: %s", error)
                self._reporting.watch.lost()
                continue
            self._reporting.watch.answered(1000 * (loop.time() - asked_at))
            if answer.refusal is None:
                self._alive()
            elif answer.refusal.code is RefusalCode.CLIENT_UNKNOWN:
                return

    def _alive(self) -> None:
        if self._options.alive_file is not None:
            Path(self._options.alive_file).touch()

    def _hear(self, data: bytes) -> None:
        if not self._client:
            return  # the sync after the welcome brings it again
        mail = self._letterbox.live(data, self._client)
        if isinstance(mail, Mail):
            self._do(self._participant.on_mail(mail))
        elif mail is not None:
            self._commands.hear(mail)

    # What the state machine asks for.

    def _do(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Start(job):
                    self._start(job)
                case Cancel(job):
                    log.info("%s: the task was withdrawn", job.key)
                    self._withdrawal.say()
                case Send(update, stored):
                    self._sending[update.key] = self._spawn(self._send(update, stored=stored))
                case Drop(key):
                    self._forget(key)
                case Tell(report):
                    self._spawn(self._tell(report))
                case Note(text, warning):
                    log.log(logging.WARNING if warning else logging.INFO, "%s", text)
                case _:
                    assert_never(action)

    def _start(self, job: Job) -> None:
        self._withdrawal = Withdrawal()
        match job:
            case TrainJob():
                self._spawn(self._run_train(job))
            case ValidateJob():
                self._spawn(self._run_validate(job))
            case _:
                assert_never(job)

    async def _run_train(self, job: TrainJob) -> None:
        now = asyncio.get_running_loop().time()
        until = now + self._jobs.budget_s(job.task)
        spans = _spans.begin(job.task.trace_id)
        update = await self._consented.train(job, self._client, self._withdrawal, until)
        if update is not None:
            self._open[job.key] = (until, spans)
        self._do(self._participant.on_trained(job, update))

    async def _run_validate(self, job: ValidateJob) -> None:
        _spans.begin(job.task.trace_id)  # the report that follows inherits it
        until = asyncio.get_running_loop().time() + self._options.patience_s
        report = await self._consented.validate(job, self._client, self._withdrawal, until)
        self._do(self._participant.on_validated(job, report))

    async def _send(self, update: Update, *, stored: bool) -> None:
        key = update.key
        now = asyncio.get_running_loop().time()
        until, spans = self._open.get(key, (0.0, Spans()))
        spans.send()
        until = max(until, now + self._options.patience_s)
        if not stored and not self._consented.update_may_leave(update):
            self._sending.pop(key, None)
            self._do(self._participant.on_unsent(key))
            return
        try:
            refusal = await self._sender.send(
                update, stored=stored, until=until, trace_id=spans.trace_id
            )
        except Away as error:
            log.warning("%s: %s", key, error)
            outcome = partial(self._participant.on_unsent, key)
        except (OSError, ContentGone) as error:
            gone = Refusal(code=RefusalCode.BLOB_MISSING, detail=f"the kept file: {error}")
            outcome = partial(self._participant.on_refused, key, gone)
        else:
            outcome = (
                partial(self._participant.on_stored, key)
                if refusal is None
                else partial(self._participant.on_refused, key, refusal)
            )
        self._sending.pop(key, None)
        self._do(outcome())

    async def _tell(self, report: ValidationReport) -> None:
        if not self._consented.report_may_leave(report):
            return
        until = asyncio.get_running_loop().time() + self._options.patience_s
        try:
            answer = await self._asker.insist(
                "report", report, until=until, trace_id=_spans.trace_id(), passing=OPEN_SOON
            )
        except BusAway as error:
            log.warning("%s: validation not reported: %s", report.session, error)
            return
        if answer.refusal is not None:
            log.warning("%s: validation refused: %s", report.session, answer.refusal.code)

    def _fetcher(self, models: Models, bytes_max: int) -> Fetcher:
        return Fetcher(
            self._asker,
            self._blobs,
            models,
            bytes_max=bytes_max,
            patience_s=self._options.patience_s,
            done=self._endings.done,
        )

    def _forget(self, key: UpdateKey) -> None:
        sending = self._sending.pop(key, None)
        if sending is not None:
            sending.cancel()
        self._open.pop(key, None)
        try:
            self._kept.drop(key)
        except OSError as error:
            log.warning("%s: cannot remove the kept update: %s", key, error)

    def _spawn(self, work: Coroutine[None, None, T]) -> "asyncio.Task[T]":
        assert self._group is not None, "not running"
        return self._group.create_task(work)
