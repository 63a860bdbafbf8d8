"""From documents to what clients get: pure."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Literal

from fedbus_core.aggregation.metrics import weighted_metrics
from fedbus_core.rounds.state import RoundPhase
from fedbus_schemas.ids import SessionId, Sha256
from fedbus_schemas.refusals import MEANING
from fedbus_schemas.updates import Timings
from fedbus_schemas.views import (
    Outcome,
    RefusedView,
    RoundAttempts,
    RoundProgress,
    RoundView,
    RunView,
    SessionView,
    SpanView,
    StuckView,
    TimelineView,
    ValidationReportView,
    ValidationView,
)

from fedbus_api.documents import Attempt, RoundDocument, SessionDocument

NO_VALIDATION = ValidationView()

Validated = Callable[[SessionId, int, Sha256], ValidationView]
"""Gives what was measured of the model that a session's round made."""


def session_view(
    document: SessionDocument,
    stored: int | None,
    validation: ValidationView,
    stuck: StuckView | None = None,
) -> SessionView:
    """Show a session; `stored` is the live count of the open attempt, `stuck` what holds it up."""
    return SessionView(
        session=document.session,
        project=document.project,
        name=document.settings.name,
        phase=document.phase.value,
        reason=document.reason,
        rounds_completed=document.completed,
        rounds_total=document.rounds_total,
        round=_progress(document, stored),
        stuck=stuck,
        look_again=document.look_again,
        model=document.model.digest,
        initial_model=document.initial.digest,
        package=document.package.digest if document.package else None,
        metrics=document.metrics,
        validation=validation,
        settings=document.settings,
        created=document.created,
        updated=document.updated,
        archived=document.archived,
        number=document.number,
    )


def _progress(document: SessionDocument, stored: int | None) -> RoundProgress | None:
    attempt = document.open
    if attempt is None or document.latest is None:
        return None
    phase: Literal["collecting", "closing"] = (
        "closing" if attempt.phase is RoundPhase.CLOSING else "collecting"
    )
    return RoundProgress(
        number=document.latest.number,
        attempt=attempt.attempt,
        phase=phase,
        invited=len(attempt.cohort),
        target=attempt.target,
        minimum=attempt.minimum,
        stored=stored,
        opened=attempt.opened,
        deadline=attempt.deadline,
    )


def run_views(document: SessionDocument) -> list[RunView]:
    """Show a session's runs, the oldest first."""
    return [
        RunView(
            session=document.session,
            run=run.number,
            rounds=run.last_round - run.first_round + 1,
            first_round=run.first_round,
            last_round=run.last_round,
            round_timeout_s=run.round_timeout_s,
            started=run.started,
            outcome=run.outcome,
            completed_at=run.ended,
            model=run.model,
        )
        for run in document.runs
    ]


def round_view(
    session: SessionId, number: int, attempt: Attempt, validation: ValidationView
) -> RoundView:
    """Show one attempt of a round."""
    answered = set(attempt.counted) | {one.client for one in attempt.refused}
    return RoundView(
        session=session,
        number=number,
        attempt=attempt.attempt,
        outcome=attempt.outcome,
        reason=attempt.reason,
        cohort=len(attempt.cohort),
        target=attempt.target,
        minimum=attempt.minimum,
        counted=len(attempt.counted),
        clients=attempt.counted,
        refused=tuple(
            RefusedView(
                client=one.client, code=one.code, detail=one.detail, meaning=MEANING[one.code]
            )
            for one in attempt.refused
        ),
        missing=0 if attempt.outcome is Outcome.OPEN else len(set(attempt.cohort) - answered),
        weight=attempt.weight,
        base=attempt.base.digest,
        model=attempt.model.digest if attempt.model else None,
        included=attempt.included,
        rule=attempt.rule,
        workers=attempt.workers,
        metrics=attempt.metrics,
        validation=validation,
        closed_by=attempt.closed_by,
        opened=attempt.opened,
        deadline=attempt.deadline,
        closing=attempt.closing,
        ended=attempt.ended,
        duration_s=_since(attempt, attempt.ended),
        timings=attempt.timings,
        pruned=attempt.pruned,
        trace_id=attempt.trace_id,
    )


def round_attempts(
    session: SessionId, document: RoundDocument, validated: Validated
) -> RoundAttempts:
    """Show a round with all its attempts."""
    return RoundAttempts(
        session=session,
        number=document.number,
        attempts=tuple(
            attempt_view(session, document.number, one, validated) for one in document.attempts
        ),
    )


def attempt_view(
    session: SessionId, number: int, attempt: Attempt, validated: Validated
) -> RoundView:
    """Show an attempt; only the one that made a model can have been validated."""
    made = attempt.model
    validation = validated(session, number, made.digest) if made is not None else NO_VALIDATION
    return round_view(session, number, attempt, validation)


def validation_view(reports: Iterable[ValidationReportView]) -> ValidationView:
    """Average reports, weighted by examples; the sums are exact, so their order changes nothing."""
    taken = [report for report in reports if report.weight > 0]
    return ValidationView(
        reports=len(taken),
        weight=sum(report.weight for report in taken),
        metrics=weighted_metrics((report.weight, report.metrics) for report in taken),
    )


def timeline_view(
    session: SessionId,
    number: int,
    attempt: Attempt,
    arrivals: Sequence[tuple[str, datetime, Timings]],
    left_out: int,
) -> TimelineView:
    """Lay out an attempt's time; `arrivals` are the counted clients with the time their update was stored."""
    spans = [span for one in arrivals for span in _client_spans(attempt, *one)]
    spans += _server_spans(attempt)
    return TimelineView(
        session=session,
        number=number,
        attempt=attempt.attempt,
        outcome=attempt.outcome,
        trace_id=attempt.trace_id,
        opened=attempt.opened,
        duration_s=_since(attempt, attempt.ended),
        spans=tuple(spans),
        left_out=left_out,
    )


def _client_spans(
    attempt: Attempt, client: str, stored: datetime, timings: Timings
) -> list[SpanView]:
    end = (stored - attempt.opened).total_seconds()
    uploading = max(0.0, end - timings.upload_s)
    training = max(0.0, uploading - timings.train_s)
    loading = max(0.0, training - timings.download_s)
    return [
        SpanView(name="download", who=client, start_s=loading, end_s=training),
        SpanView(name="train", who=client, start_s=training, end_s=uploading),
        SpanView(name="upload", who=client, start_s=uploading, end_s=end),
        SpanView(name="stored", who=client, start_s=end, end_s=end),
    ]


def _server_spans(attempt: Attempt) -> list[SpanView]:
    spans = []
    asked, closing = _since(attempt, attempt.closing_asked), _since(attempt, attempt.closing)
    if asked is not None and closing is not None:
        spans.append(SpanView(name="closing", who="controller", start_s=asked, end_s=closing))
    result, ended = _since(attempt, attempt.ended_asked), _since(attempt, attempt.ended)
    if attempt.outcome is not Outcome.COMPLETED or result is None or ended is None:
        return spans
    # The combiner tells lengths; the last of them ended when its result was stored.
    who, timings = ", ".join(attempt.workers), attempt.timings
    store = result - timings.store_s
    fold = store - timings.fold_s
    read = fold - timings.read_s
    return [
        *spans,
        SpanView(name="read", who=who, start_s=read, end_s=fold),
        SpanView(name="fold", who=who, start_s=fold, end_s=store),
        SpanView(name="store", who=who, start_s=store, end_s=result),
        SpanView(name="completed", who="controller", start_s=result, end_s=ended),
    ]


def _since(attempt: Attempt, moment: datetime | None) -> float | None:
    """Seconds from the opening to a moment."""
    return None if moment is None else (moment - attempt.opened).total_seconds()
