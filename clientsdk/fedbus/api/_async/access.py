"""Who uses the api: tokens, roles, and what was done."""

from collections.abc import AsyncIterator

from fedbus_schemas.access_views import ActView, IdentityView, MadeTokenView, TokenView
from pydantic import JsonValue

from fedbus.api._asked import Filters
from fedbus.api._async.connection import AsyncConnection


class AsyncAccess:
    """The project's operators."""

    _http: AsyncConnection

    async def whoami(self) -> IdentityView:
        """Give who the caller is, and in which roles."""
        return await self._http.get(IdentityView, "/v1/whoami")

    async def add_token(
        self,
        name: str,
        role: str,
        *,
        lifetime_s: int | None = None,
        everywhere: bool = False,
    ) -> MadeTokenView:
        """Make a token (role viewer, auditor, operator or admin). Its secret is told this once."""
        body: dict[str, JsonValue] = {"name": name, "role": role, "everywhere": everywhere}
        if lifetime_s is not None:
            body["lifetime_s"] = lifetime_s
        return await self._http.send(MadeTokenView, "/v1/tokens", body)

    def get_tokens(
        self, n_max: int | None = None, *, filters: Filters | None = None, sort: str | None = None
    ) -> AsyncIterator[TokenView]:
        """List the tokens without their secrets."""
        return self._http.rows(TokenView, "/v1/tokens", filters, sort, n_max)

    async def get_tokens_count(self, *, filters: Filters | None = None) -> int:
        """Count the tokens."""
        return await self._http.count("/v1/tokens", filters)

    async def revoke_token(self, token: str) -> TokenView:
        """Let a token count no more."""
        return await self._http.send(TokenView, f"/v1/tokens/{token}", method="DELETE")

    def get_acts(
        self, n_max: int | None = None, *, filters: Filters | None = None, sort: str | None = None
    ) -> AsyncIterator[ActView]:
        """List what was changed by whom, the last act first."""
        return self._http.rows(ActView, "/v1/acts", filters, sort, n_max)

    async def get_acts_count(self, *, filters: Filters | None = None) -> int:
        """Count the acts."""
        return await self._http.count("/v1/acts", filters)
