"""The client: what an operator asks of a project, under the names that FEDn's client has for it."""

from ssl import SSLContext
from typing import Self

from fedbus.api._access import find
from fedbus.api._async.access import AsyncAccess
from fedbus.api._async.clients import AsyncClients
from fedbus.api._async.connection import AsyncConnection
from fedbus.api._async.models import AsyncModels
from fedbus.api._async.operations import AsyncOperations
from fedbus.api._async.packages import AsyncPackages
from fedbus.api._async.records import AsyncRecords
from fedbus.api._async.rounds import AsyncRounds
from fedbus.api._async.sessions import AsyncSessions


class AsyncAPIClient(
    AsyncSessions,
    AsyncRounds,
    AsyncModels,
    AsyncClients,
    AsyncRecords,
    AsyncPackages,
    AsyncOperations,
    AsyncAccess,
):
    """The api of one project. Use it in a `with` (`AsyncAPIClient`: in an `async with`).

    Without `host` it is FEDBUS_API_URL, else the saved `context` (FEDBUS_CONTEXT, or the one that `fedbus
    context use` chose), else the local stack of this folder (`.fedbus`, or FEDBUS_DIR). Without `token` it is
    FEDBUS_API_TOKEN, the file FEDBUS_API_TOKEN_FILE, or what goes with the context or the local stack.
    `host` may be a URL. `secure` is TLS (port 443 unless given, else 8080), `verify` its check: True, False,
    or an `ssl.SSLContext` with a CA of your own. Without `project` it is FEDBUS_PROJECT, the context's, or
    `default`.

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
        project: str | None = None,
        context: str | None = None,
    ) -> None:
        self._http = AsyncConnection(
            find(host, port, token, secure=secure, verify=verify, project=project, context=context)
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()
