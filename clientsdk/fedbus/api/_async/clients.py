"""Clients, controllers and combiners."""

from collections.abc import AsyncIterator

from fedbus_schemas.views import ClientView, CombinerView, ControllerView

from fedbus.api._asked import Filters, with_fields
from fedbus.api._async.connection import AsyncConnection
from fedbus.api.errors import ApiError


class AsyncClients:
    """Who takes part, and who computes."""

    _http: AsyncConnection

    async def get_client(self, id: str) -> ClientView:  # noqa: A002  # FEDn's name
        """Give a client by its pseudonym (`c…`)."""
        return await self._http.get(ClientView, f"/v1/clients/{id}")

    def get_clients(
        self, n_max: int | None = None, *, filters: Filters | None = None, sort: str | None = None
    ) -> AsyncIterator[ClientView]:
        """List the clients, those that joined last first."""
        return self._http.rows(ClientView, "/v1/clients", filters, sort, n_max)

    def get_active_clients(self, n_max: int | None = None) -> AsyncIterator[ClientView]:
        """List the clients that are online. Clients belong to no combiner here."""
        return self.get_clients(n_max, filters={"online": True})

    async def get_clients_count(
        self, *, only_active: bool = False, filters: Filters | None = None
    ) -> int:
        """Count the clients."""
        asked = with_fields(filters, online=True if only_active else None)
        return await self._http.count("/v1/clients", asked)

    async def rename_client(self, id: str, name: str) -> ClientView:  # noqa: A002
        """Give a client another name."""
        return await self._http.send(
            ClientView, f"/v1/clients/{id}", {"name": name}, method="PATCH"
        )

    async def erase_client(self, id: str) -> None:  # noqa: A002
        """Forget who a client was: its pseudonym stays in the log, its name is nowhere any more."""
        await self._http.delete(f"/v1/clients/{id}")

    def get_controllers(
        self, n_max: int | None = None, *, filters: Filters | None = None, sort: str | None = None
    ) -> AsyncIterator[ControllerView]:
        """List the controllers that decided on the project's sessions, the last one first."""
        return self._http.rows(ControllerView, "/v1/controllers", filters, sort, n_max)

    async def get_controllers_count(self, *, filters: Filters | None = None) -> int:
        """Count the controllers."""
        return await self._http.count("/v1/controllers", filters)

    def get_combiners(
        self, n_max: int | None = None, *, filters: Filters | None = None, sort: str | None = None
    ) -> AsyncIterator[CombinerView]:
        """List the combiners that worked on the project's rounds, the last one first."""
        return self._http.rows(CombinerView, "/v1/combiners", filters, sort, n_max)

    async def get_combiner(self, id: str) -> CombinerView:  # noqa: A002  # FEDn's name
        """Give a combiner by its name. Raises `ApiError` (`not_found`)."""
        async for one in self.get_combiners(1, filters={"name": id}):
            return one
        raise ApiError("not_found", f"combiner {id}", 404)

    async def get_combiners_count(self, *, filters: Filters | None = None) -> int:
        """Count the combiners."""
        return await self._http.count("/v1/combiners", filters)
