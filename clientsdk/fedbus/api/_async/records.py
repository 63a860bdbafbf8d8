"""What clients logged: metrics, attributes, telemetry, inference results, lines for people."""

from collections.abc import AsyncIterator, Sequence

from fedbus_schemas.record_views import (
    AttributeChangeView,
    AttributeView,
    BacklogView,
    MetricView,
    ResultView,
    SelectionView,
    StatusEventView,
    TelemetryView,
)

from fedbus.api._asked import Filters, with_fields
from fedbus.api._async.connection import AsyncConnection


class AsyncRecords:
    """The clients' records, the last stored first."""

    _http: AsyncConnection

    def get_metrics(
        self,
        session_id: str | None = None,
        model_id: str | None = None,
        key: str | None = None,
        n_max: int | None = None,
        *,
        filters: Filters | None = None,
        sort: str | None = None,
    ) -> AsyncIterator[MetricView]:
        """List the numbers that clients logged."""
        asked = with_fields(filters, session=session_id, model=model_id, key=key)
        return self._http.rows(MetricView, "/v1/metrics", asked, sort, n_max)

    async def get_metrics_count(
        self, session_id: str | None = None, *, filters: Filters | None = None
    ) -> int:
        """Count the metrics."""
        return await self._http.count("/v1/metrics", with_fields(filters, session=session_id))

    def get_current_attributes(
        self,
        client_id: str | None = None,
        key: str | None = None,
        n_max: int | None = None,
        *,
        filters: Filters | None = None,
        sort: str | None = None,
    ) -> AsyncIterator[AttributeView]:
        """List what clients are like now; of one client (its pseudonym) or all."""
        asked = with_fields(filters, client=client_id, key=key)
        return self._http.rows(AttributeView, "/v1/attributes", asked, sort, n_max)

    async def get_current_attributes_count(self, *, filters: Filters | None = None) -> int:
        """Count the attributes that clients have now."""
        return await self._http.count("/v1/attributes", filters)

    def get_attribute_trail(
        self,
        client_id: str | None = None,
        key: str | None = None,
        n_max: int | None = None,
        *,
        filters: Filters | None = None,
        sort: str | None = None,
    ) -> AsyncIterator[AttributeChangeView]:
        """List how attributes changed; of one client (its pseudonym) or all."""
        asked = with_fields(filters, client=client_id, key=key)
        return self._http.rows(AttributeChangeView, "/v1/attributes/history", asked, sort, n_max)

    def get_telemetry(
        self,
        client_id: str | None = None,
        key: str | None = None,
        n_max: int | None = None,
        *,
        filters: Filters | None = None,
        sort: str | None = None,
    ) -> AsyncIterator[TelemetryView]:
        """List what clients observed."""
        asked = with_fields(filters, client=client_id, key=key)
        return self._http.rows(TelemetryView, "/v1/telemetry", asked, sort, n_max)

    async def get_telemetry_count(self, *, filters: Filters | None = None) -> int:
        """Count the telemetry."""
        return await self._http.count("/v1/telemetry", filters)

    def get_inference_results(
        self,
        model_id: str | None = None,
        key: str | None = None,
        n_max: int | None = None,
        *,
        filters: Filters | None = None,
        sort: str | None = None,
    ) -> AsyncIterator[ResultView]:
        """List what models answered at the clients."""
        asked = with_fields(filters, model=model_id, key=key)
        return self._http.rows(ResultView, "/v1/inference-results", asked, sort, n_max)

    async def get_inference_results_count(self, *, filters: Filters | None = None) -> int:
        """Count the inference results."""
        return await self._http.count("/v1/inference-results", filters)

    def get_predictions(
        self,
        model_id: str | None = None,
        n_max: int | None = None,
        *,
        filters: Filters | None = None,
        sort: str | None = None,
    ) -> AsyncIterator[ResultView]:
        """List inference results, under the name that FEDn has for them."""
        return self.get_inference_results(model_id, n_max=n_max, filters=filters, sort=sort)

    def get_status_events(
        self,
        session_id: str | None = None,
        level: str | None = None,
        n_max: int | None = None,
        *,
        filters: Filters | None = None,
        sort: str | None = None,
    ) -> AsyncIterator[StatusEventView]:
        """List the lines that clients wrote for people."""
        asked = with_fields(filters, session=session_id, level=level)
        return self._http.rows(StatusEventView, "/v1/status-events", asked, sort, n_max)

    async def get_status_events_count(self, *, filters: Filters | None = None) -> int:
        """Count the lines that clients wrote for people."""
        return await self._http.count("/v1/status-events", filters)

    def get_backlogs(
        self,
        n_max: int | None = None,
        *,
        filters: Filters | None = None,
        sort: str | None = None,
    ) -> AsyncIterator[BacklogView]:
        """List what waits at each client to be sent, as it said last, and how good its link is."""
        return self._http.rows(BacklogView, "/v1/backlogs", filters, sort, n_max)

    async def select_clients(self, where: str = "", ids: Sequence[str] = ()) -> SelectionView:
        """Say whom a query means, as `"site=eu,gpu>=1"`, and why each other client is not meant."""
        return await self._http.get(SelectionView, "/v1/selection", {"where": where, "id": ids})
