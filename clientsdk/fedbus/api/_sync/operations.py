# Written by tools/generate_sync_api.py from _async/operations.py (make schemas): change that one.
"""How the project stands, what went wrong, and what there is to choose."""

from collections.abc import Iterator

from fedbus_schemas.views import (
    AggregatorView,
    DeadLetterView,
    LetterOutcomeView,
    Page,
    RefusalView,
    StatusView,
)

from fedbus.api._asked import Filters
from fedbus.api._sync.connection import Connection


class Operations:
    """What an operator looks after."""

    _http: Connection

    def get_controller_status(self) -> StatusView:
        """Give the project at a glance: sessions by phase, clients, what is stuck, which servers answer."""
        return self._http.get(StatusView, "/v1/status")

    def get_refusals(
        self, n_max: int | None = None, *, filters: Filters | None = None, sort: str | None = None
    ) -> Iterator[RefusalView]:
        """List the clients' requests that were refused, the last first."""
        return self._http.rows(RefusalView, "/v1/refusals", filters, sort, n_max)

    def get_refusals_count(self, *, filters: Filters | None = None) -> int:
        """Count the refusals."""
        return self._http.count("/v1/refusals", filters)

    def get_dead_letters(
        self, n_max: int | None = None, *, filters: Filters | None = None, sort: str | None = None
    ) -> Iterator[DeadLetterView]:
        """List the messages that nobody could handle, the last first."""
        return self._http.rows(DeadLetterView, "/v1/dead-letters", filters, sort, n_max)

    def get_dead_letters_count(self, *, filters: Filters | None = None) -> int:
        """Count the dead letters."""
        return self._http.count("/v1/dead-letters", filters)

    def get_dead_letter(self, sequence: int) -> DeadLetterView:
        """Give a dead letter with its content."""
        return self._http.get(DeadLetterView, f"/v1/dead-letters/{sequence}")

    def retry_dead_letter(self, sequence: int) -> LetterOutcomeView:
        """Have a dead letter delivered again, after its cause was mended."""
        return self._http.send(LetterOutcomeView, f"/v1/dead-letters/{sequence}/retry")

    def drop_dead_letter(self, sequence: int) -> LetterOutcomeView:
        """Delete a dead letter for good."""
        path = f"/v1/dead-letters/{sequence}"
        return self._http.send(LetterOutcomeView, path, method="DELETE")

    def get_aggregators(self) -> list[AggregatorView]:
        """List the aggregation rules with the JSON schema of their parameters."""
        return list((self._http.get(Page[AggregatorView], "/v1/aggregators")).items)
