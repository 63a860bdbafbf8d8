"""The client: what an operator asks of a project, under the names that FEDn's client has for it."""

from ssl import SSLContext
from typing import Self

from fedbus.api._access import find
from fedbus.api._async.clients import AsyncClients
from fedbus.api._async.connection import AsyncConnection
from fedbus.api._async.models import AsyncModels
from fedbus.api._async.operations import AsyncOperations
from fedbus.api._async.packages import AsyncPackages
from fedbus.api._async.rounds import AsyncRounds
from fedbus.api._async.sessions import AsyncSessions


class AsyncAPIClient(
    AsyncSessions, AsyncRounds, AsyncModels, AsyncClients, AsyncPackages, AsyncOperations
):
    """The api of one project. Use it in a `with` (`AsyncAPIClient`: in an `async with`).

    Without `host` it is FEDBUS_API_URL, else the local stack of this folder (`.fedbus`, or FEDBUS_DIR). Without
    `token` it is FEDBUS_API_TOKEN, the file FEDBUS_API_TOKEN_FILE, or for the local stack its own.
    `host` may be a URL. `secure` is TLS (port 443 unless given, else 8080), `verify` its check: True, False,
    or an `ssl.SSLContext` with a CA of your own.

    Lists are iterators that fetch pages as you go: `n_max` ends them, `filters` and `sort` are those of
    docs/api.md, as `{"phase": "running"}`, `{"metrics.loss__lt": 0.1}`, `"-created"`. Rows are the views of
    `fedbus_schemas.views`. Every method raises `ApiError`, with the reason in `code`, or `ApiAway`.

    `APIClient` may be shared between threads, `AsyncAPIClient` between the tasks of one event loop.
    """

    def __init__(
        self,
        host: str | None = None,
        port: int | None = None,
        token: str | None = None,
        *,
        secure: bool = False,
        verify: bool | SSLContext = True,
        project: str = "default",
    ) -> None:
        access = find(host, port, token, secure=secure)
        self._http = AsyncConnection(access, project, verify)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()
