"""What a client does next: a state machine without clock, chance or I/O.

Something happened (mail came, a training ended, an update was stored) goes in; what to do about it comes
out as actions. Invariants:

- For one (session, round, attempt) a train function runs at most once and at most one update is kept.
- An update is dropped only when its final receipt came, or when a server refused it for good. That the
  round is closed is no last word on an update that was stored.
- A newer mail withdraws every train task that it does not hold; a validation once accepted still runs.
- One function runs at a time.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from fedbus_schemas.asks import PendingUpdate, SessionReceipt
from fedbus_schemas.refusals import Refusal, RefusalCode
from fedbus_schemas.tasks import Fate, Mail, Receipt, TrainTask, ValidateTask
from fedbus_schemas.updates import ValidationReport

from fedbus._updates import Update, UpdateKey

VALIDATIONS_MAX = 4
"""Validations that may wait; of more, the one waiting longest is dropped."""
SESSIONS_MAX = 1024
"""Sessions of which the client remembers how far they were; the one heard longest ago is forgotten."""


@dataclass(frozen=True, slots=True)
class TrainJob:
    """A train task of a session."""

    session: str
    task: TrainTask

    @property
    def key(self) -> UpdateKey:
        """What its update will be."""
        return UpdateKey(self.session, self.task.round, self.task.attempt)


@dataclass(frozen=True, slots=True)
class ValidateJob:
    """A validate task of a session."""

    session: str
    task: ValidateTask


Job: TypeAlias = TrainJob | ValidateJob


@dataclass(frozen=True, slots=True)
class Start:
    """Run the function for this job; tell `on_trained` or `on_validated` how it ended."""

    job: Job


@dataclass(frozen=True, slots=True)
class Cancel:
    """The running job was withdrawn: let its function know."""

    job: TrainJob


@dataclass(frozen=True, slots=True)
class Send:
    """Upload and submit this update; tell `on_stored`, `on_refused` or `on_unsent` how it ended.

    `stored`: a server had it already, so its file needs no upload.
    """

    update: Update
    stored: bool = False


@dataclass(frozen=True, slots=True)
class Drop:
    """Forget this update, and stop sending it."""

    key: UpdateKey


@dataclass(frozen=True, slots=True)
class Tell:
    """Send this validation report."""

    report: ValidationReport


@dataclass(frozen=True, slots=True)
class Note:
    """Tell the user a line. A `warning` is something that cost work or needs a look."""

    text: str
    warning: bool = False


Action: TypeAlias = Start | Cancel | Send | Drop | Tell | Note


@dataclass(slots=True)
class _Kept:
    update: Update
    sending: bool = False
    stored: bool = False


@dataclass(slots=True)
class _Session:
    number: int = 0
    trained: tuple[int, int] = (0, 0)
    validated: int = 0


@dataclass(slots=True)
class Participant:
    """One client in all its sessions. Not thread-safe: the event loop's only."""

    kept_max: int
    validates: bool
    _queue: list[Job] = field(default_factory=list)
    _running: Job | None = None
    _withdrawn: bool = False
    _kept: dict[UpdateKey, _Kept] = field(default_factory=dict)
    _sessions: OrderedDict[str, _Session] = field(default_factory=OrderedDict)

    def on_restored(self, updates: Iterable[Update]) -> list[Action]:
        """Updates of an earlier run are here. They are sent after the first sync."""
        for update in updates:
            self._kept[update.key] = _Kept(update)
            session = self._session(update.key.session)
            session.trained = max(session.trained, (update.key.round, update.key.attempt))
        return []

    def on_mail(self, mail: Mail) -> list[Action]:
        """A mail came whose signature and address hold."""
        session = self._session(mail.session)
        if mail.number < session.number:
            return [Note(f"{mail.session}: dropped old mail {mail.number}, had {session.number}")]
        if mail.number == session.number:
            return []
        session.number = mail.number
        actions: list[Action] = []
        for receipt in mail.receipts:
            actions += self._receipt(mail.session, receipt)
        trains = [TrainJob(mail.session, t) for t in mail.tasks if isinstance(t, TrainTask)]
        actions += self._withdraw(mail.session, {job.key for job in trains})
        for job in trains:
            actions += self._accept_train(session, job)
        for task in sorted(
            (t for t in mail.tasks if isinstance(t, ValidateTask)), key=lambda task: task.round
        ):
            actions += self._accept_validate(session, ValidateJob(mail.session, task))
        return actions + self._next()

    def on_synced(self, mail: Iterable[Mail], receipts: Iterable[SessionReceipt]) -> list[Action]:
        """The answer to a sync came. What is still kept after it is sent again."""
        actions: list[Action] = []
        for receipt in receipts:
            actions += self._receipt(receipt.session, receipt)
        for one in mail:
            actions += self.on_mail(one)
        for kept in self._kept.values():
            actions += _send(kept)
        return actions + self._next()

    def on_trained(self, job: TrainJob, update: Update | None) -> list[Action]:
        """The running train job ended, with an update that survives a restart by now, or without one."""
        assert self._running == job, "a job ended that was not running"
        withdrawn = self._withdrawn
        self._running, self._withdrawn = None, False
        if update is None:
            return self._next()
        assert update.key == job.key, "an update of another round"
        assert update.key not in self._kept, "a second update for one attempt"
        if withdrawn:
            late = Note(f"{job.key}: the task was withdrawn, the result is thrown away")
            return [late, Drop(update.key), *self._next()]
        kept = self._kept[update.key] = _Kept(update)
        return [*_send(kept), *self._next()]

    def on_validated(self, job: ValidateJob, report: ValidationReport | None) -> list[Action]:
        """The running validate job ended, with a report or without one."""
        assert self._running == job, "a job ended that was not running"
        self._running = None
        actions: list[Action] = [] if report is None else [Tell(report)]
        return actions + self._next()

    def on_stored(self, key: UpdateKey) -> list[Action]:
        """A server keeps the update. It may still be counted or not: we keep it, too."""
        kept = self._kept.get(key)
        if kept is None:
            return []
        again, kept.sending, kept.stored = kept.stored, False, True
        return [] if again else [Note(f"{key}: update stored")]

    def on_unsent(self, key: UpdateKey) -> list[Action]:
        """Sending was given up for now; the next sync sends it again, if it is still open then."""
        kept = self._kept.get(key)
        if kept is None:
            return []
        kept.sending = False
        return [Note(f"{key}: no server took the update yet, it is kept", warning=True)]

    def on_refused(self, key: UpdateKey, refusal: Refusal) -> list[Action]:
        """A server will not take this update, whatever we do."""
        kept = self._kept.get(key)
        if kept is None:
            return []
        assert refusal.code is not RefusalCode.RETRY_LATER, "that is no refusal for good"
        if kept.stored and refusal.code is RefusalCode.ROUND_CLOSED:
            # The round is being closed, perhaps with this update: the receipt will say.
            kept.sending = False
            return []
        return [Note(f"{key}: {_said(refusal)}", warning=True), *self._drop(key), *self._next()]

    def pending(self) -> tuple[PendingUpdate, ...]:
        """The updates that no receipt was heard of."""
        return tuple(
            PendingUpdate(
                session=key.session,
                round=key.round,
                attempt=key.attempt,
                update=kept.update.blob.digest,
            )
            for key, kept in sorted(self._kept.items())
        )

    def _session(self, name: str) -> _Session:
        session = self._sessions.setdefault(name, _Session())
        self._sessions.move_to_end(name)
        if len(self._sessions) > SESSIONS_MAX:
            self._sessions.popitem(last=False)
        return session

    def _receipt(self, session: str, receipt: Receipt) -> list[Action]:
        key = UpdateKey(session, receipt.round, receipt.attempt)
        if key not in self._kept:
            return []
        return [_last_word(key, receipt), *self._drop(key)]

    def _drop(self, key: UpdateKey) -> list[Action]:
        del self._kept[key]
        return [Drop(key)]

    def _withdraw(self, session: str, open_keys: set[UpdateKey]) -> list[Action]:
        actions: list[Action] = []
        for job in list(self._queue):
            if _is_gone(job, session, open_keys):
                self._queue.remove(job)
        running = self._running
        if isinstance(running, TrainJob) and _is_gone(running, session, open_keys):
            if not self._withdrawn:
                actions.append(Cancel(running))
            self._withdrawn = True
        return actions

    def _accept_train(self, session: _Session, job: TrainJob) -> list[Action]:
        place = (job.task.round, job.task.attempt)
        if place <= session.trained or job.key in self._kept:
            return []
        session.trained = place
        self._queue.append(job)
        return []

    def _accept_validate(self, session: _Session, job: ValidateJob) -> list[Action]:
        if not self.validates or job.task.round <= session.validated:
            return []
        session.validated = job.task.round
        self._queue.append(job)
        waiting = [one for one in self._queue if isinstance(one, ValidateJob)]
        if len(waiting) <= VALIDATIONS_MAX:
            return []
        self._queue.remove(waiting[0])
        text = f"{waiting[0].session}: left out the validation of round {waiting[0].task.round}"
        return [Note(f"{text}; {VALIDATIONS_MAX} newer ones wait", warning=True)]

    def _next(self) -> list[Action]:
        if self._running is not None:
            return []
        full = len(self._kept) >= self.kept_max
        for job in self._queue:
            if full and isinstance(job, TrainJob):
                continue
            self._queue.remove(job)
            self._running = job
            return [Start(job)]
        return []


def _send(kept: _Kept) -> list[Action]:
    if kept.sending:
        return []
    kept.sending = True
    return [Send(kept.update, kept.stored)]


def _is_gone(job: Job, session: str, open_keys: set[UpdateKey]) -> bool:
    return isinstance(job, TrainJob) and job.session == session and job.key not in open_keys


def _last_word(key: UpdateKey, receipt: Receipt) -> Note:
    match receipt.fate:
        case Fate.COUNTED:
            return Note(f"{key}: update counted")
        case Fate.LATE:
            return Note(f"{key}: update came too late and was not counted", warning=True)
        case Fate.REFUSED:
            said = "" if receipt.refusal is None else f": {_said(receipt.refusal)}"
            return Note(f"{key}: update refused{said}", warning=True)
        case Fate.GIVEN_UP:
            return Note(f"{key}: the attempt ended without a model")


def _said(refusal: Refusal) -> str:
    detail = f" ({refusal.detail})" if refusal.detail else ""
    return f"{refusal.code}: {refusal.meaning}{detail}"
