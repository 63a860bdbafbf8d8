"""Does a client's part of commands: one thread a kind of task, beside training; each is answered once."""

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

from fedbus_schemas.commands import (
    CUSTOM,
    DETAIL_CHARS_MAX,
    RESULT_BYTES_MAX,
    RESULT_INLINE_BYTES_MAX,
    AnswerOutcome,
    ClientStatus,
    CommandAnswer,
    CommandGrantRequest,
    CommandProgress,
    TaskName,
)
from fedbus_schemas.models import BlobRef
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.tasks import CommandMail, CommandTask

from fedbus import _answering, _threads, _work
from fedbus._asking import PASSING, Asker
from fedbus._blobs import Stopped, Store
from fedbus._consented import Watch
from fedbus._context import RunningTask
from fedbus._fetching import Fetcher
from fedbus._jobs import Withdrawal, complain
from fedbus._reporting import Desk
from fedbus._turns import Turns
from fedbus.consent.guard import Guard
from fedbus.consent.policy import LOCAL, Allowed, Denied, Package, Request
from fedbus.errors import Away, BadResult, BusAway, FedbusError, OverLimit, TaskAborted
from fedbus.trainer import (
    CommandFunction,
    Packages,
    Settings,
    Trainer,
    ValidateFunction,
)

log = logging.getLogger("fedbus")

WAITING_MAX = 64
"""Commands that one client works on at once, those that wait for their thread included."""
REMEMBERED_MAX = 1024
"""Commands that are remembered as done, so that the same mail heard again is no second run."""
COMPUTING = frozenset({TaskName.INFERENCE, TaskName.VALIDATE})
"""The tasks that wait for this client's turn at computing, where clients of a host take turns."""
Call: TypeAlias = Callable[[bytes | bytearray | None, Settings], object]
"""Does a task with the bytes of its model, in the thread of its kind."""
AWAITED = PASSING | {RefusalCode.COMMAND_UNKNOWN, RefusalCode.CLIENT_UNKNOWN}


@dataclass(slots=True)
class _Run:
    mail: CommandMail
    task: CommandTask
    withdrawal: Withdrawal = field(default_factory=Withdrawal)


class CommandRuns:
    """The commands that a client works on. The event loop's only."""

    def __init__(
        self,
        trainer: Trainer | Packages,
        asker: Asker,
        fetcher: Fetcher,
        blobs: Store,
        spawn: Callable[[Coroutine[None, None, None]], object],
        patience_s: float,
        guard: Guard,
        desk: Desk,
        turns: Turns,
    ) -> None:
        self._trainer = trainer
        self._asker = asker
        self._fetcher = fetcher
        self._blobs = blobs
        self._spawn = spawn
        self._patience_s = patience_s
        self._guard = guard
        self._desk = desk
        self._turns = turns
        self._runs: dict[str, _Run] = {}
        self._done: dict[str, None] = {}
        self._workers: dict[str, _threads.Worker] = {}

    def working(self) -> tuple[str, ...]:
        """Name the commands that are under way."""
        return tuple(self._runs)

    def hear(self, mail: CommandMail) -> None:
        """A mail of a command came whose signature and address hold."""
        if mail.task is None:
            self.ended([mail.command])
            return
        if mail.command in self._runs or mail.command in self._done:
            return
        run = self._runs[mail.command] = _Run(mail, mail.task)
        self._spawn(self._do(run))

    def ended(self, commands: Iterable[str]) -> None:
        """These commands are over: let their functions know."""
        for command in commands:
            run = self._runs.get(command)
            if run is not None:
                log.info("command %s was withdrawn", command)
                run.withdrawal.say()
            self._remember(command)

    def close(self) -> None:
        """Let everything know that it is over. Does not wait."""
        for run in self._runs.values():
            run.withdrawal.say()
        for worker in self._workers.values():
            worker.close()

    async def _do(self, run: _Run) -> None:
        started = time.monotonic()
        try:
            answer = await self._answer(run)
            if answer is not None:
                seconds = time.monotonic() - started
                await self._send(run, answer.model_copy(update={"duration_s": seconds}))
        finally:
            self._runs.pop(run.mail.command, None)

    async def _answer(self, run: _Run) -> CommandAnswer | None:
        """Do the client's part as far as the data's owner allows it; None when it was withdrawn."""
        command, task = run.mail.command, run.task
        function = self._function(task.task)
        if function is None:
            return _no(command, RefusalCode.TASK_UNKNOWN, f"no function for {task.task}")
        if len(self._runs) > WAITING_MAX:
            return _no(command, RefusalCode.TOO_MANY_OPEN, f"{WAITING_MAX} commands are under way")
        request = _request(run, self._code(task))
        verdict = self._guard.judge(request)
        if isinstance(verdict, Allowed) and not self._result_may_leave(task.task):
            verdict = Denied("outgoing.results", f"results of {task.task} are not listed")
        if isinstance(verdict, Denied):
            return _declined(command, verdict)
        self._tell(run, ClientStatus.ACCEPTED, None, "")
        watch = Watch(verdict.limits, run.withdrawal)
        made = await self._try(run, function)
        denied = watch.stop() or (made if isinstance(made, Denied) else None)
        if denied is None and isinstance(made, str):
            denied = self._may_leave(request, made)
        self._guard.ended(request, watch.outcome(denied, done=isinstance(made, str)), watch.seconds)
        if denied is not None:
            run.withdrawal = Withdrawal()  # the owner ended it, which the servers are told
            return _declined(command, denied)
        if run.withdrawal.is_said() or not isinstance(made, str):
            return made if isinstance(made, CommandAnswer) else None
        return await self._result(run, made)

    def _result_may_leave(self, task: str) -> bool:
        """Whether a result of this task may be sent: it goes by the task's name."""
        numbers_only = task in {TaskName.VALIDATE, TaskName.STAGE_MODEL}
        return numbers_only or self._guard.may_leave("results", task)

    def _may_leave(self, request: Request, text: str) -> Denied | None:
        """Ask whether a result may leave, and write down that it does."""
        content = text.encode()
        denied = self._guard.may_send(request, len(content))
        if denied is not None:
            return denied
        digest = hashlib.sha256(content).hexdigest()
        if self._guard.leaving(request, digest=digest, size=len(content), keys=(), records=0):
            return None
        return Denied("log.unwritable", "the result could not be written to the local log")

    async def _try(self, run: _Run, function: Call) -> str | CommandAnswer | Denied | None:
        """Give the result as JSON text, or why there is none; None when it was withdrawn."""
        command, task = run.mail.command, run.task.task
        try:
            data = await self._model(run)
            if run.withdrawal.is_said():
                return None
            call = partial(self._call, function, run, data, self._teller(run))
            worker = self._workers.setdefault(task, _threads.Worker(f"fedbus-{task}"))
            if task not in COMPUTING:
                return await worker.run(call)
            async with self._turns.turn(run.withdrawal) as ours:
                return await worker.run(call) if ours else None
        except (Stopped, TaskAborted):
            return None
        except OverLimit as over:
            return Denied(over.rule, str(over))
        except FedbusError as error:
            complain(f"command {command}: {task} failed", error)
            detail = str(error)[:DETAIL_CHARS_MAX] if self._guard.may_leave("events", "") else ""
            outcome, code = AnswerOutcome.FAILED, RefusalCode.TASK_FAILED
            return CommandAnswer(command=command, outcome=outcome, code=code, detail=detail)

    async def _model(self, run: _Run) -> bytes | bytearray | None:
        model = run.task.model
        if model is None:
            return None
        blob = BlobRef(digest=model.digest, size=model.size)
        request = CommandGrantRequest(purpose="download", command=run.mail.command, blob=blob)
        fetching = self._fetcher.fetch(
            model,
            request,
            until=asyncio.get_running_loop().time() + self._patience_s,
            stop=run.withdrawal.is_said,
            trace_id=run.task.trace_id,
        )
        return await run.withdrawal.unless_said(fetching)

    def _call(
        self,
        function: Call,
        run: _Run,
        data: bytes | bytearray | None,
        progress: Callable[[float, str], None],
    ) -> str:
        """Call the user's function. In the thread of its kind of task."""
        settings = Settings(
            run.task.parameters,
            session="",
            round=0,
            model=run.task.model.digest if run.task.model else "",
            deadline=run.task.deadline,
            cancelled=run.withdrawal.is_said,
            client=self._desk.recorder,
            command=run.mail.command,
            progress=progress,
        )
        progress(0.0, "")
        model = run.task.model.digest if run.task.model else None
        with self._desk.place.beside(RunningTask(None, None, model, run.withdrawal.is_said)):
            value = function(data, settings)
        try:
            text = json.dumps(value, allow_nan=False, separators=(",", ":"))
        except (TypeError, ValueError, RecursionError) as error:
            raise BadResult(f"the result of {run.task.task} is no JSON: {error}") from error
        if len(text) > RESULT_BYTES_MAX:  # ASCII: `json` escapes the rest
            raise BadResult(f"the result has {len(text)} bytes, at most {RESULT_BYTES_MAX}")
        return text

    async def _result(self, run: _Run, text: str) -> CommandAnswer | None:
        command, content = run.mail.command, text.encode()
        done = AnswerOutcome.COMPLETED
        if len(content) <= RESULT_INLINE_BYTES_MAX:
            return CommandAnswer(command=command, outcome=done, value=text)
        blob = BlobRef(digest=hashlib.sha256(content).hexdigest(), size=len(content))
        try:
            await run.withdrawal.unless_said(self._upload(run, blob, content))
        except Stopped:
            return None
        except BadResult as error:
            return CommandAnswer(
                command=command,
                outcome=AnswerOutcome.FAILED,
                code=RefusalCode.TASK_FAILED,
                detail=str(error)[:DETAIL_CHARS_MAX],
            )
        return CommandAnswer(command=command, outcome=done, blob=blob)

    async def _upload(self, run: _Run, blob: BlobRef, content: bytes) -> None:
        request = CommandGrantRequest(purpose="upload", command=run.mail.command, blob=blob)
        pauses = self._asker.pauses()
        while True:
            answer = await self._asker.insist("command_grant", request, passing=AWAITED)
            grant = answer.grant
            if grant is None:
                said = answer.refusal.code if answer.refusal else "nothing"
                raise BadResult(f"the result cannot be stored: {said}")
            if grant.exists:
                return
            try:
                put = partial(self._blobs.put, grant, content)
                await _threads.Stoppable(run.withdrawal.is_said).run(put)
                return
            except Away as error:
                log.warning("command %s: %s; trying again", run.mail.command, error)
            await asyncio.sleep(next(pauses))

    async def _send(self, run: _Run, answer: CommandAnswer) -> None:
        """Send the answer, always the same bytes, until a server keeps or refuses it."""
        said = await run.withdrawal.unless_said(
            self._asker.insist("answer", answer, trace_id=run.task.trace_id, passing=AWAITED)
        )
        if said is None:
            return  # the command ended meanwhile
        self._remember(answer.command)
        if said.refusal is not None:
            log.warning("command %s: answer refused: %s", answer.command, said.refusal.code)
        else:
            log.info("command %s: answer kept (%s)", answer.command, answer.outcome)

    def _function(self, task: str) -> Call | None:
        """Find what does a task: the user's function, with the checks around it."""
        trainer = self._trainer
        if not isinstance(trainer, Trainer):
            latest = trainer.latest
            if latest is None:
                return _plainly(_answering.staged if task == TaskName.STAGE_MODEL else None)
            if task == TaskName.RESTART:
                return _plainly(partial(_answering.restarted, trainer, latest[0]))
            trainer = latest[1]
        if task == TaskName.INFERENCE:
            return _plainly(trainer.predict)
        if task == TaskName.STAGE_MODEL:
            return _plainly(trainer.stage or _answering.staged)
        if task == TaskName.VALIDATE and trainer.validate is not None:
            return partial(self._validate, trainer.validate)
        if task.startswith(CUSTOM):
            return _plainly(trainer.commands.get(task.removeprefix(CUSTOM)))
        return None

    def _code(self, task: CommandTask) -> Package:
        """Say whose code a command would run: of the package used last, or of the one to restart."""
        latest = None if isinstance(self._trainer, Trainer) else self._trainer.latest
        if latest is None or not latest[0]:
            return LOCAL
        named = task.parameters.get(_answering.PACKAGE) if task.task == TaskName.RESTART else None
        return Package.remote(named if isinstance(named, str) else latest[0])

    def _validate(
        self, function: ValidateFunction, data: bytes | bytearray | None, settings: Settings
    ) -> object:
        if data is None:
            raise BadResult("a validation needs a model")
        measured = _work.validate(function, data, settings)
        return {"examples": measured.weight, "metrics": self._guard.metrics(measured.metrics)}

    def _teller(self, run: _Run) -> Callable[[float, str], None]:
        loop = asyncio.get_running_loop()

        def tell(fraction: float, text: str = "") -> None:
            status = ClientStatus.RUNNING
            loop.call_soon_threadsafe(self._tell, run, status, fraction, text)

        return tell

    def _tell(self, run: _Run, status: ClientStatus, fraction: float | None, text: str) -> None:
        if run.withdrawal.is_said():
            return
        given: dict[str, object] = {"command": run.mail.command, "status": status}
        if self._guard.may_leave("events", ""):
            given["text"] = text[:DETAIL_CHARS_MAX]
        if fraction is not None:
            given["fraction"] = min(1.0, max(0.0, float(fraction)))
        self._spawn(self._say(CommandProgress.model_validate(given)))

    async def _say(self, progress: CommandProgress) -> None:
        """Say it once: progress is lossy."""
        until = asyncio.get_running_loop().time() + 1.0
        try:
            answer = await self._asker.insist("progress", progress, until=until)
        except BusAway as error:
            log.debug("progress of %s: %s", progress.command, error)
            return
        if answer.refusal is not None and answer.refusal.code is RefusalCode.COMMAND_ENDED:
            self.ended([progress.command])

    def _remember(self, command: str) -> None:
        self._done[command] = None
        while len(self._done) > REMEMBERED_MAX:
            del self._done[next(iter(self._done))]


def _plainly(function: CommandFunction | None) -> Call | None:
    return None if function is None else partial(_work.command, function)


def _no(command: str, code: RefusalCode, detail: str) -> CommandAnswer:
    return CommandAnswer(
        command=command, outcome=AnswerOutcome.REFUSED, code=code, detail=detail[:DETAIL_CHARS_MAX]
    )


def _declined(command: str, denied: Denied) -> CommandAnswer:
    return _no(command, RefusalCode.DECLINED, f"{denied.rule}: {denied.detail}")


def _request(run: _Run, code: Package) -> Request:
    """Give what the policy is asked."""
    model = run.task.model.digest if run.task.model else ""
    mail = run.mail
    return Request(
        kind=run.task.task, project=mail.project, command=mail.command, model=model, package=code
    )
