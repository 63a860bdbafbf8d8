"""Every list the api gives: its fields, the key of a row, and the order when none is asked for."""

from fedbus_schemas.access_views import ActView, TokenView
from fedbus_schemas.device_views import DeviceView, JoinView
from fedbus_schemas.ids import SessionId
from fedbus_schemas.record_views import (
    AttributeChangeView,
    AttributeView,
    BacklogView,
    MetricView,
    ResultView,
    StatusEventView,
    TelemetryView,
)
from fedbus_schemas.trail_views import StageView
from fedbus_schemas.views import (
    ClientView,
    CombinerView,
    ControllerView,
    DeadLetterView,
    ModelView,
    PackageView,
    RefusalView,
    RoundView,
    RunView,
    SessionView,
    ValidationReportView,
)

from fedbus_api.documents import RoundDocument, SessionDocument
from fedbus_api.listing.pages import Listing
from fedbus_api.people import ClientRow
from fedbus_api.validations import Means
from fedbus_api.views import attempt_view, session_view


def _number(value: int) -> str:
    """Write a number so that it sorts as text."""
    return f"{value:012}"


SESSIONS: Listing[SessionView] = Listing(
    "sessions",
    SessionView,
    key=lambda one: one.session,
    sort="-created",
    without=("stuck", "round.stored"),
)
ROUNDS: Listing[RoundView] = Listing(
    "rounds", RoundView, key=lambda one: f"{one.session} {_number(one.number)}", sort="-opened"
)
RUNS: Listing[RunView] = Listing(
    "runs", RunView, key=lambda one: f"{one.session} {_number(one.run)}", sort="-started"
)
MODELS: Listing[ModelView] = Listing(
    "models",
    ModelView,
    key=lambda one: f"{one.session or ''} {_number(one.round or 0)} {one.digest}",
    sort="-created",
)
PACKAGES: Listing[PackageView] = Listing(
    "packages", PackageView, key=lambda one: one.digest, sort="-created"
)
STAGES: Listing[StageView] = Listing("stages", StageView, key=lambda one: one.stage, sort="stage")
CLIENTS: Listing[ClientRow] = Listing(
    "clients", ClientView, key=lambda one: one.client, sort="-since"
)
COMBINERS: Listing[CombinerView] = Listing(
    "combiners", CombinerView, key=lambda one: one.name, sort="-last_seen"
)
CONTROLLERS: Listing[ControllerView] = Listing(
    "controllers", ControllerView, key=lambda one: one.name, sort="-last_seen"
)
REFUSALS: Listing[RefusalView] = Listing(
    "refusals", RefusalView, key=lambda one: _number(one.sequence), sort="-sequence"
)
DEAD_LETTERS: Listing[DeadLetterView] = Listing(
    "dead letters",
    DeadLetterView,
    key=lambda one: _number(one.sequence),
    sort="-sequence",
    without=("data",),
)
TOKENS: Listing[TokenView] = Listing(
    "tokens", TokenView, key=lambda one: one.token, sort="-created"
)
JOINS: Listing[JoinView] = Listing(
    "join tokens", JoinView, key=lambda one: one.join, sort="-created"
)
DEVICES: Listing[DeviceView] = Listing(
    "devices", DeviceView, key=lambda one: one.device, sort="-enrolled"
)
ACTS: Listing[ActView] = Listing(
    "acts", ActView, key=lambda one: _number(one.sequence), sort="-sequence"
)
VALIDATIONS: Listing[ValidationReportView] = Listing(
    "validations",
    ValidationReportView,
    key=lambda one: _number(one.sequence),
    sort="-sequence",
)

METRICS: Listing[MetricView] = Listing("metrics", MetricView, key=lambda one: one.id, sort="-id")
ATTRIBUTES: Listing[AttributeView] = Listing(
    "attributes", AttributeView, key=lambda one: f"{one.client} {one.key}", sort="client"
)
ATTRIBUTE_CHANGES: Listing[AttributeChangeView] = Listing(
    "attribute changes", AttributeChangeView, key=lambda one: one.id, sort="-id"
)
TELEMETRY: Listing[TelemetryView] = Listing(
    "telemetry", TelemetryView, key=lambda one: one.id, sort="-id"
)
RESULTS: Listing[ResultView] = Listing(
    "inference results", ResultView, key=lambda one: one.id, sort="-id"
)
STATUS_EVENTS: Listing[StatusEventView] = Listing(
    "status events", StatusEventView, key=lambda one: one.id, sort="-id"
)
BACKLOGS: Listing[BacklogView] = Listing(
    "backlogs", BacklogView, key=lambda one: one.client, sort="client"
)

VIEWS_MAX = 50_000
"""Views of rounds that are remembered; then all are made again."""


def session_rows(documents: list[SessionDocument], means: Means) -> list[SessionView]:
    """Show sessions without what is live: the page completes those that it tells."""
    found = []
    for document in documents:
        validation = means.of(document.session, document.completed or 1, document.model.digest)
        found.append(session_view(document, None, validation))
    return found


class RoundRows:
    """Shows rounds by their last attempt, and remembers the views."""

    def __init__(self) -> None:
        self._views: dict[tuple[SessionId, int], tuple[RoundDocument, RoundView]] = {}

    def of(
        self,
        session: SessionId,
        documents: tuple[RoundDocument, ...] | list[RoundDocument],
        means: Means,
    ) -> list[RoundView]:
        """Show a session's rounds."""
        return [self._row(session, one, means) for one in documents]

    def _row(self, session: SessionId, document: RoundDocument, means: Means) -> RoundView:
        kept = self._views.get((session, document.number))
        made = document.last.model
        if kept is not None and kept[0] is document:
            view = kept[1]
            validation = means.of(session, document.number, made.digest) if made else None
            if validation is None or validation is view.validation:
                return view
        view = attempt_view(session, document.number, document.last, means.of)
        if len(self._views) >= VIEWS_MAX:
            self._views.clear()
        self._views[session, document.number] = document, view
        return view
