# Written by tools/generate_sync_api.py from _async/access.py (make schemas): change that one.
"""Who uses the api: tokens, roles, and what was done."""

from collections.abc import Iterator

from fedbus_schemas.access_views import ActView, IdentityView, MadeTokenView, TokenView
from pydantic import JsonValue

from fedbus.api._asked import Filters
from fedbus.api._sync.connection import Connection


class Access:
    """The project's operators."""

    _http: Connection

    def whoami(self) -> IdentityView:
        """Give who the caller is, and in which roles."""
        return self._http.get(IdentityView, "/v1/whoami")

    def add_token(
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
        return self._http.send(MadeTokenView, "/v1/tokens", body)

    def get_tokens(
        self, n_max: int | None = None, *, filters: Filters | None = None, sort: str | None = None
    ) -> Iterator[TokenView]:
        """List the tokens without their secrets."""
        return self._http.rows(TokenView, "/v1/tokens", filters, sort, n_max)

    def get_tokens_count(self, *, filters: Filters | None = None) -> int:
        """Count the tokens."""
        return self._http.count("/v1/tokens", filters)

    def revoke_token(self, token: str) -> TokenView:
        """Let a token count no more."""
        return self._http.send(TokenView, f"/v1/tokens/{token}", method="DELETE")

    def get_acts(
        self, n_max: int | None = None, *, filters: Filters | None = None, sort: str | None = None
    ) -> Iterator[ActView]:
        """List what was changed by whom, the last act first."""
        return self._http.rows(ActView, "/v1/acts", filters, sort, n_max)

    def get_acts_count(self, *, filters: Filters | None = None) -> int:
        """Count the acts."""
        return self._http.count("/v1/acts", filters)
