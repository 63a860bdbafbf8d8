# Written by tools/generate_sync_api.py from _async/rounds.py (make schemas): change that one.
"""Rounds: why they went so, what clients measured of their models, and how sessions compare."""

from collections.abc import Iterator, Sequence

from fedbus_schemas.explain_views import ExplanationView
from fedbus_schemas.trail_views import ComparisonView
from fedbus_schemas.views import RoundAttempts, RoundView, TimelineView, ValidationReportView

from fedbus.api._asked import Filters, with_fields
from fedbus.api._sync.connection import Connection


class Rounds:
    """The rounds of the project's sessions."""

    _http: Connection

    def get_round(self, session_id: str, number: int) -> RoundAttempts:
        """Give a round with all its attempts: who was invited, counted, refused, missing."""
        return self._http.get(RoundAttempts, f"/v1/sessions/{session_id}/rounds/{number}")

    def get_round_timeline(
        self, session_id: str, number: int, attempt: int | None = None
    ) -> TimelineView:
        """Give where the time of a round's attempt (the last if none is named) went."""
        path = f"/v1/sessions/{session_id}/rounds/{number}/timeline"
        return self._http.get(TimelineView, path, with_fields(None, attempt=attempt))

    def explain_round(
        self,
        session_id: str,
        number: int,
        attempt: int | None = None,
        *,
        clients: Sequence[str] = (),
        standings: Sequence[str] = (),
    ) -> ExplanationView:
        """Say of each client why it was asked or not and why its update counted or not; and what took long.

        `clients` (pseudonyms or names) and `standings` (`late`, `refused`, …) narrow it.
        """
        asked = with_fields({"client": clients, "standing": standings}, attempt=attempt)
        path = f"/v1/sessions/{session_id}/rounds/{number}/explain"
        return self._http.get(ExplanationView, path, asked)

    def compare_sessions(self, first: str, second: str) -> ComparisonView:
        """Put two sessions beside each other: settings in which they differ, and their rounds."""
        return self._http.get(ComparisonView, f"/v1/sessions/{first}/compare/{second}")

    def get_rounds(
        self,
        n_max: int | None = None,
        *,
        session_id: str | None = None,
        filters: Filters | None = None,
        sort: str | None = None,
    ) -> Iterator[RoundView]:
        """List rounds with their last attempt, those that opened last first."""
        asked = with_fields(filters, session=session_id)
        return self._http.rows(RoundView, "/v1/rounds", asked, sort, n_max)

    def get_rounds_count(self, *, filters: Filters | None = None) -> int:
        """Count the rounds."""
        return self._http.count("/v1/rounds", filters)

    def get_validations(
        self,
        session_id: str | None = None,
        model_id: str | None = None,
        n_max: int | None = None,
        *,
        filters: Filters | None = None,
        sort: str | None = None,
    ) -> Iterator[ValidationReportView]:
        """List what clients measured of models, the last first. FEDn's `sender_name` is the filter `client`."""
        asked = with_fields(filters, session=session_id, model=model_id)
        return self._http.rows(ValidationReportView, "/v1/validations", asked, sort, n_max)

    def get_validations_count(
        self, session_id: str | None = None, *, filters: Filters | None = None
    ) -> int:
        """Count the reports."""
        return self._http.count("/v1/validations", with_fields(filters, session=session_id))
