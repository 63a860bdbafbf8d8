"""Documents made from the log: pure, so every instance makes the same, from Redis or from the first entry.

`apply` steps a session's document by one stored entry. A round's document is final once the next round
is open; until then it lies in the session's document too (`latest`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from fedbus_core.rounds.evolve import with_timeout
from fedbus_core.rounds.log import LogBroken, read_entry
from fedbus_core.rounds.state import RoundPhase, SessionPhase
from fedbus_schemas.codec import digest
from fedbus_schemas.envelope import GENESIS
from fedbus_schemas.events import (
    AnyEvent,
    DeadlineMoved,
    RoundClosing,
    RoundCompleted,
    RoundFailed,
    RoundOpened,
    RoundPruned,
    RoundReopened,
    SessionArchived,
    SessionCompleted,
    SessionExtended,
    SessionFailed,
    SessionPaused,
    SessionResumed,
    SessionStarted,
    SessionStopped,
    SessionWaiting,
)
from fedbus_schemas.ids import InstanceName
from fedbus_schemas.views import Outcome, RunOutcome

from fedbus_api.documents import (
    ATTEMPTS_KEPT_MAX,
    RUNS_KEPT_MAX,
    WORKERS_KEPT_MAX,
    Attempt,
    RoundDocument,
    Run,
    SessionDocument,
    Worker,
)


@dataclass(frozen=True, slots=True)
class Moment:
    """When an entry was stored, and when the input was that led to it."""

    stored: datetime
    asked: datetime


def apply(
    document: SessionDocument | None, data: bytes, sequence: int, stored: datetime
) -> tuple[SessionDocument, tuple[RoundDocument, ...]]:
    """Step a document by one entry; give it and the documents of the rounds that changed.

    Raises `LogBroken` when the entry does not continue the document, `UnknownEvent` from a newer version.
    """
    entry, events = read_entry(data)
    number, head = (document.number, document.head) if document else (0, GENESIS)
    if (entry.number, entry.previous) != (number + 1, head):
        raise LogBroken(f"session {entry.session}: entry {entry.number} does not follow {number}")
    head = digest(data)
    rest = events
    if document is None:
        first, rest = events[0], events[1:]
        if not isinstance(first, SessionStarted):
            raise LogBroken(f"session {entry.session}: the log does not begin with its start")
        document = _begin(first, head, sequence, stored)
    changes = {"number": entry.number, "head": head, "sequence": sequence, "updated": stored}
    document = document.model_copy(update=changes)
    moment = Moment(stored, entry.events[0].time)
    changed: dict[int, RoundDocument] = {}
    for event in rest:
        before = document.latest
        document = _step(document, event, moment)
        if document.latest is not None and document.latest is not before:
            changed[document.latest.number] = document.latest
    return _decided(document, entry.by, stored), tuple(changed.values())


def _decided(
    document: SessionDocument, by: InstanceName | None, stored: datetime
) -> SessionDocument:
    """Remember who decided; entries of earlier versions do not say."""
    if by is None:
        return document
    number = document.latest.number if document.latest is not None else document.completed + 1
    decider = Worker(name=by, round=number, seen=stored)
    return document.model_copy(
        update={"controllers": _with_worker(document.controllers, [decider])}
    )


def _with_worker(known: Sequence[Worker], more: Sequence[Worker]) -> tuple[Worker, ...]:
    """Add workers, the last seen last, and let go of those not seen for longest."""
    seen = {worker.name: worker for worker in known}
    for worker in more:
        seen.pop(worker.name, None)
        seen[worker.name] = worker
    return tuple(seen.values())[-WORKERS_KEPT_MAX:]


def _begin(event: SessionStarted, head: str, sequence: int, stored: datetime) -> SessionDocument:
    return SessionDocument(
        project=event.project,
        session=event.session,
        genesis=head,
        number=1,
        sequence=sequence,
        head=head,
        settings=event.settings,
        initial=event.model,
        model=event.model,
        rounds_total=event.settings.rounds,
        package=event.package,
        runs=(
            Run(
                number=1,
                first_round=1,
                last_round=event.settings.rounds,
                round_timeout_s=event.settings.round_timeout_s,
                started=stored,
            ),
        ),
        created=stored,
        updated=stored,
    )


def _step(document: SessionDocument, event: AnyEvent, moment: Moment) -> SessionDocument:
    match event:
        case SessionStarted():
            raise LogBroken(f"session {document.session} starts twice")
        case RoundOpened():
            return _opened(document, event, moment)
        case DeadlineMoved() | RoundClosing() | RoundReopened():
            return _moved(document, event, moment)
        case RoundCompleted():
            return _completed(document, event, moment)
        case RoundPruned():
            return _pruned(document, event)
        case SessionArchived():
            return document.model_copy(update={"archived": moment.stored})
        case RoundFailed():
            ended = {"reason": event.reason, "refused": event.refused}
            return _ended(document, moment, Outcome.FAILED, ended)
        case (
            SessionWaiting()
            | SessionPaused()
            | SessionResumed()
            | SessionExtended()
            | SessionCompleted()
            | SessionStopped()
            | SessionFailed()
        ):
            return _session(document, event, moment)
        case _:
            assert_never(event)


def _opened(document: SessionDocument, event: RoundOpened, moment: Moment) -> SessionDocument:
    attempt = Attempt(
        attempt=event.attempt,
        base=event.model,
        cohort=tuple(member.client for member in event.cohort),
        target=event.target,
        minimum=event.minimum,
        deadline=event.deadline,
        trace_id=event.trace_id,
        opened=moment.stored,
    )
    latest = document.latest
    earlier = latest.attempts if latest is not None and latest.number == event.round else ()
    attempts = (*earlier, attempt)[-ATTEMPTS_KEPT_MAX:]
    opened = RoundDocument(genesis=document.genesis, number=event.round, attempts=attempts)
    waiting = document.phase is SessionPhase.WAITING
    phase = SessionPhase.RUNNING if waiting else document.phase
    return document.model_copy(update={"latest": opened, "phase": phase, "look_again": None})


def _moved(
    document: SessionDocument, event: DeadlineMoved | RoundClosing | RoundReopened, moment: Moment
) -> SessionDocument:
    match event:
        case DeadlineMoved():
            return _change(document, {"deadline": event.deadline})
        case RoundClosing():
            closing = {
                "phase": RoundPhase.CLOSING,
                "closed_by": event.reason,
                "cutoff": event.cutoff,
                "closing": moment.stored,
                "closing_asked": moment.asked,
            }
            return _change(document, closing)
        case RoundReopened():
            return _change(document, {"phase": RoundPhase.COLLECTING, "refused": event.refused})
        case _:
            assert_never(event)


def _completed(document: SessionDocument, event: RoundCompleted, moment: Moment) -> SessionDocument:
    ended = {
        "counted": event.counted,
        "refused": event.refused,
        "weight": event.weight,
        "model": event.model,
        "included": event.included,
        "state": event.state,
        "rule": event.rule,
        "workers": event.workers,
        "metrics": event.metrics,
        "timings": event.timings,
    }
    document = _ended(document, moment, Outcome.COMPLETED, ended)
    workers = [Worker(name=name, round=event.round, seen=moment.stored) for name in event.workers]
    return document.model_copy(
        update={
            "model": event.model,
            "completed": event.round,
            "runs": _ran(document, event, moment),
            "metrics": event.metrics,
            "workers": _with_worker(document.workers, workers),
        }
    )


def _session(
    document: SessionDocument,
    event: (
        SessionWaiting
        | SessionPaused
        | SessionResumed
        | SessionExtended
        | SessionCompleted
        | SessionStopped
        | SessionFailed
    ),
    moment: Moment,
) -> SessionDocument:
    changes: dict[str, object] = {"look_again": None}
    match event:
        case SessionWaiting():
            changes = {"phase": SessionPhase.WAITING, "look_again": event.look_again}
        case SessionPaused():
            changes["phase"] = SessionPhase.PAUSED
        case SessionResumed():
            changes["phase"] = SessionPhase.RUNNING
        case SessionExtended():
            changes = {
                "rounds_total": event.rounds,
                "runs": _next_run(document, event, moment),
                "settings": with_timeout(document.settings, event.round_timeout_s),
            }
            if document.phase is SessionPhase.COMPLETED:
                changes["phase"] = SessionPhase.RUNNING
        case SessionCompleted():
            changes["phase"] = SessionPhase.COMPLETED
        case SessionStopped():
            document = _given_up(document, moment, event.reason)
            runs = _cut_off(document, moment, RunOutcome.STOPPED)
            changes |= {"phase": SessionPhase.STOPPED, "reason": event.reason, "runs": runs}
        case SessionFailed():
            reason = event.detail or event.reason
            document = _given_up(document, moment, reason)
            runs = _cut_off(document, moment, RunOutcome.FAILED)
            changes |= {"phase": SessionPhase.FAILED, "reason": reason, "runs": runs}
        case _:
            assert_never(event)
    return document.model_copy(update=changes)


def _ran(document: SessionDocument, event: RoundCompleted, moment: Moment) -> tuple[Run, ...]:
    """End the run whose last round this is."""
    ended = {
        "ended": moment.stored,
        "outcome": RunOutcome.COMPLETED,
        "model": event.model.digest,
    }
    return tuple(
        run.model_copy(update=ended) if run.last_round == event.round else run
        for run in document.runs
    )


def _next_run(document: SessionDocument, event: SessionExtended, moment: Moment) -> tuple[Run, ...]:
    """Begin a run with the rounds that were added; the oldest go when there are many."""
    settings = with_timeout(document.settings, event.round_timeout_s)
    run = Run(
        number=document.runs[-1].number + 1,
        first_round=document.rounds_total + 1,
        last_round=event.rounds,
        round_timeout_s=settings.round_timeout_s,
        started=moment.stored,
    )
    return (*document.runs, run)[-RUNS_KEPT_MAX:]


def _cut_off(document: SessionDocument, moment: Moment, outcome: RunOutcome) -> tuple[Run, ...]:
    """End all runs that are under way with their session, with the model there is."""
    ended = {"ended": moment.stored, "outcome": outcome, "model": document.model.digest}
    return tuple(
        run.model_copy(update=ended) if run.ended is None else run for run in document.runs
    )


def _pruned(document: SessionDocument, event: RoundPruned) -> SessionDocument:
    latest = document.latest
    if latest is None or (latest.number, latest.last.attempt) != (event.round, event.attempt):
        raise LogBroken(f"session {document.session}: round {event.round} is not the last one")
    return _change(document, {"pruned": True})


def _given_up(document: SessionDocument, moment: Moment, reason: str) -> SessionDocument:
    """End the open attempt, if there is one, without a model."""
    if document.open is None:
        return document
    return _ended(document, moment, Outcome.FAILED, {"reason": reason})


def _ended(
    document: SessionDocument, moment: Moment, outcome: Outcome, changes: Mapping[str, object]
) -> SessionDocument:
    ended = {"outcome": outcome, "ended": moment.stored, "ended_asked": moment.asked}
    return _change(document, {**ended, **changes})


def _change(document: SessionDocument, changes: Mapping[str, object]) -> SessionDocument:
    """Change the newest attempt."""
    latest = document.latest
    if latest is None:
        raise LogBroken(f"session {document.session}: no round was opened")
    attempt = latest.last.model_copy(update=changes)
    changed = latest.model_copy(update={"attempts": (*latest.attempts[:-1], attempt)})
    return document.model_copy(update={"latest": changed})
