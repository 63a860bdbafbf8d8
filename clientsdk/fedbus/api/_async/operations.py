"""How the project stands, what went wrong, and what there is to choose."""

from collections.abc import AsyncIterator

from fedbus_schemas.views import (
    AggregatorView,
    DeadLetterView,
    LetterOutcomeView,
    Page,
    RefusalView,
    StatusView,
)

from fedbus.api._asked import Filters
from fedbus.api._async.connection import AsyncConnection


class AsyncOperations:
    """What an operator looks after."""

    _http: AsyncConnection

    async def get_controller_status(self) -> StatusView:
        """Give the project at a glance: sessions by phase, clients, what is stuck, which servers answer."""
        return await self._http.get(StatusView, "/v1/status")

    def get_refusals(
        self, n_max: int | None = None, *, filters: Filters | None = None, sort: str | None = None
    ) -> AsyncIterator[RefusalView]:
        """List the clients' requests that were refused, the last first."""
        return self._http.rows(RefusalView, "/v1/refusals", filters, sort, n_max)

    async def get_refusals_count(self, *, filters: Filters | None = None) -> int:
        """Count the refusals."""
        return await self._http.count("/v1/refusals", filters)

    def get_dead_letters(
        self, n_max: int | None = None, *, filters: Filters | None = None, sort: str | None = None
    ) -> AsyncIterator[DeadLetterView]:
        """List the messages that nobody could handle, the last first."""
        return self._http.rows(DeadLetterView, "/v1/dead-letters", filters, sort, n_max)

    async def get_dead_letters_count(self, *, filters: Filters | None = None) -> int:
        """Count the dead letters."""
        return await self._http.count("/v1/dead-letters", filters)

    async def get_dead_letter(self, sequence: int) -> DeadLetterView:
        """Give a dead letter with its content."""
        return await self._http.get(DeadLetterView, f"/v1/dead-letters/{sequence}")

    async def retry_dead_letter(self, sequence: int) -> LetterOutcomeView:
        """Have a dead letter delivered again, after its cause was mended."""
        return await self._http.send(LetterOutcomeView, f"/v1/dead-letters/{sequence}/retry")

    async def drop_dead_letter(self, sequence: int) -> LetterOutcomeView:
        """Delete a dead letter for good."""
        path = f"/v1/dead-letters/{sequence}"
        return await self._http.send(LetterOutcomeView, path, method="DELETE")

    async def get_aggregators(self) -> list[AggregatorView]:
        """List the aggregation rules with the JSON schema of their parameters."""
        return list((await self._http.get(Page[AggregatorView], "/v1/aggregators")).items)
