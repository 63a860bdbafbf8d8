# Written by tools/generate_sync_api.py from _async/client.py (make schemas): change that one.
"""The client: what an operator asks of a project, under the names that FEDn's client has for it."""

from ssl import SSLContext
from typing import Self

from fedbus.api._access import find
from fedbus.api._sync.access import Access
from fedbus.api._sync.clients import Clients
from fedbus.api._sync.connection import Connection
from fedbus.api._sync.models import Models
from fedbus.api._sync.operations import Operations
from fedbus.api._sync.packages import Packages
from fedbus.api._sync.records import Records
from fedbus.api._sync.rounds import Rounds
from fedbus.api._sync.sessions import Sessions


class APIClient(
    Sessions,
    Rounds,
    Models,
    Clients,
    Records,
    Packages,
    Operations,
    Access,
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
        self._http = Connection(
            find(host, port, token, secure=secure, verify=verify, project=project, context=context)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()
