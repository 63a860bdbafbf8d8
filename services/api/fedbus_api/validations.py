"""What clients measured of the models: their reports, and the means of each round."""

from dataclasses import dataclass, field

from fedbus_runtime.ports import Clock, StoredMessage, Streams
from fedbus_schemas import subjects
from fedbus_schemas.codec import Unreadable, read
from fedbus_schemas.ids import ProjectId, RoundNumber, SessionId, Sha256
from fedbus_schemas.streams import Stream
from fedbus_schemas.updates import ValidationReport
from fedbus_schemas.views import ValidationReportView, ValidationView

from fedbus_api.tail import Tail
from fedbus_api.views import NO_VALIDATION, validation_view

REPORTS_MAX = 50_000
"""Reports of a project that are looked at, the newest."""

Key = tuple[SessionId, RoundNumber, Sha256]


@dataclass(slots=True)
class _Means:
    version: int = -1
    reports: dict[Key, list[ValidationReportView]] = field(default_factory=dict)
    views: dict[Key, ValidationView] = field(default_factory=dict)


class Means:
    """The means of every validated model of a project, worked out when asked for."""

    def __init__(self, means: _Means) -> None:
        self._means = means

    def of(self, session: SessionId, number: RoundNumber, model: Sha256) -> ValidationView:
        """Average what was reported of the model that a round made."""
        key = (session, number, model)
        reports = self._means.reports.get(key)
        if reports is None:
            return NO_VALIDATION
        view = self._means.views.get(key)
        if view is None:
            view = self._means.views[key] = validation_view(reports)
        return view


class Validations:
    """Reads the reports."""

    def __init__(self, streams: Streams, clock: Clock, kept: Stream) -> None:
        """`kept` is TELEMETRY, with how long it is."""
        self._tail = Tail(
            streams,
            clock,
            kept,
            subject=lambda project: subjects.validation(project, "*", "*", "*"),
            parse=_row,
            kept_max=REPORTS_MAX,
        )
        self._means: dict[ProjectId, _Means] = {}

    async def reports(self, project: ProjectId) -> list[ValidationReportView]:
        """Give the reports, the oldest first."""
        return await self._tail.rows(project)

    async def means(self, project: ProjectId) -> Means:
        """Give the means, as of now."""
        rows = await self._tail.rows(project)
        version = self._tail.version(project)
        known = self._means.get(project)
        if known is None or known.version != version:
            before = known or _Means()
            known = self._means[project] = _Means(version)
            for row in rows:
                known.reports.setdefault((row.session, row.round, row.model), []).append(row)
            for key, view in before.views.items():
                if known.reports.get(key) == before.reports.get(key):
                    known.views[key] = view
        return Means(known)


def validation_report(message: StoredMessage) -> ValidationReport | None:
    """Read a report; clients wrote it, so it may be anything."""
    try:
        return read(ValidationReport, message.data)
    except Unreadable:
        return None


def _row(message: StoredMessage) -> ValidationReportView | None:
    report = validation_report(message)
    if report is None:
        return None
    return ValidationReportView(
        sequence=message.sequence,
        time=message.time,
        session=report.session,
        round=report.round,
        model=report.model,
        client=subjects.token(message.subject, 3),
        weight=report.weight,
        metrics=report.metrics,
    )
