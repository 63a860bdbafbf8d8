"""Rounds, and what clients measured of their models."""

from collections.abc import AsyncIterator

from fedbus_schemas.views import RoundAttempts, RoundView, TimelineView, ValidationReportView

from fedbus.api._asked import Filters, with_fields
from fedbus.api._async.connection import AsyncConnection


class AsyncRounds:
    """The rounds of the project's sessions."""

    _http: AsyncConnection

    async def get_round(self, session_id: str, number: int) -> RoundAttempts:
        """Give a round with all its attempts: who was invited, counted, refused, missing."""
        return await self._http.get(RoundAttempts, f"/v1/sessions/{session_id}/rounds/{number}")

    async def get_round_timeline(self, session_id: str, number: int) -> TimelineView:
        """Give where a round's time went."""
        path = f"/v1/sessions/{session_id}/rounds/{number}/timeline"
        return await self._http.get(TimelineView, path)

    def get_rounds(
        self,
        n_max: int | None = None,
        *,
        session_id: str | None = None,
        filters: Filters | None = None,
        sort: str | None = None,
    ) -> AsyncIterator[RoundView]:
        """List rounds with their last attempt, those that opened last first."""
        asked = with_fields(filters, session=session_id)
        return self._http.rows(RoundView, "/v1/rounds", asked, sort, n_max)

    async def get_rounds_count(self, *, filters: Filters | None = None) -> int:
        """Count the rounds."""
        return await self._http.count("/v1/rounds", filters)

    def get_validations(
        self,
        session_id: str | None = None,
        model_id: str | None = None,
        n_max: int | None = None,
        *,
        filters: Filters | None = None,
        sort: str | None = None,
    ) -> AsyncIterator[ValidationReportView]:
        """List what clients measured of models, the last first. FEDn's `sender_name` is the filter `client`."""
        asked = with_fields(filters, session=session_id, model=model_id)
        return self._http.rows(ValidationReportView, "/v1/validations", asked, sort, n_max)

    async def get_validations_count(
        self, session_id: str | None = None, *, filters: Filters | None = None
    ) -> int:
        """Count the reports."""
        return await self._http.count("/v1/validations", with_fields(filters, session=session_id))
