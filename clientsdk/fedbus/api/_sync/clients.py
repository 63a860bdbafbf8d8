# Written by tools/generate_sync_api.py from _async/clients.py (make schemas): change that one.
"""Clients, controllers and combiners."""

from collections.abc import Iterator

from fedbus_schemas.views import ClientView, CombinerView, ControllerView

from fedbus.api._asked import Filters, with_fields
from fedbus.api._sync.connection import Connection
from fedbus.api.errors import ApiError


class Clients:
    """Who takes part, and who computes."""

    _http: Connection

    def get_client(self, id: str) -> ClientView:  # noqa: A002  # FEDn's name
        """Give a client by its pseudonym (`c…`)."""
        return self._http.get(ClientView, f"/v1/clients/{id}")

    def get_clients(
        self, n_max: int | None = None, *, filters: Filters | None = None, sort: str | None = None
    ) -> Iterator[ClientView]:
        """List the clients, those that joined last first."""
        return self._http.rows(ClientView, "/v1/clients", filters, sort, n_max)

    def get_active_clients(self, n_max: int | None = None) -> Iterator[ClientView]:
        """List the clients that are online. Clients belong to no combiner here."""
        return self.get_clients(n_max, filters={"online": True})

    def get_clients_count(
        self, *, only_active: bool = False, filters: Filters | None = None
    ) -> int:
        """Count the clients."""
        asked = with_fields(filters, online=True if only_active else None)
        return self._http.count("/v1/clients", asked)

    def rename_client(self, id: str, name: str) -> ClientView:  # noqa: A002
        """Give a client another name."""
        return self._http.send(ClientView, f"/v1/clients/{id}", {"name": name}, method="PATCH")

    def erase_client(self, id: str) -> None:  # noqa: A002
        """Forget who a client was: its pseudonym stays in the log, its name is nowhere any more."""
        self._http.delete(f"/v1/clients/{id}")

    def get_controllers(
        self, n_max: int | None = None, *, filters: Filters | None = None, sort: str | None = None
    ) -> Iterator[ControllerView]:
        """List the controllers that decided on the project's sessions, the last one first."""
        return self._http.rows(ControllerView, "/v1/controllers", filters, sort, n_max)

    def get_controllers_count(self, *, filters: Filters | None = None) -> int:
        """Count the controllers."""
        return self._http.count("/v1/controllers", filters)

    def get_combiners(
        self, n_max: int | None = None, *, filters: Filters | None = None, sort: str | None = None
    ) -> Iterator[CombinerView]:
        """List the combiners that worked on the project's rounds, the last one first."""
        return self._http.rows(CombinerView, "/v1/combiners", filters, sort, n_max)

    def get_combiner(self, id: str) -> CombinerView:  # noqa: A002  # FEDn's name
        """Give a combiner by its name. Raises `ApiError` (`not_found`)."""
        for one in self.get_combiners(1, filters={"name": id}):
            return one
        raise ApiError("not_found", f"combiner {id}", 404)

    def get_combiners_count(self, *, filters: Filters | None = None) -> int:
        """Count the combiners."""
        return self._http.count("/v1/combiners", filters)
