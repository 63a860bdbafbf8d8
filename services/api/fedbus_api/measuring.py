"""Counts the api's requests by route and status, and how long the first byte takes."""

from time import monotonic

from fedbus_runtime.metrics import HTTP_REQUESTS, HTTP_SECONDS
from starlette.types import ASGIApp, Message, Receive, Scope, Send

NO_ROUTE = "-"
"""What was turned away before a route was found."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Measured:
    """The ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and count it when its answer begins."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = monotonic()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", NO_ROUTE)
                method = scope["method"] if scope["method"] in METHODS else NO_ROUTE
                HTTP_REQUESTS.add(method=method, route=route, status=str(message["status"]))
                HTTP_SECONDS.observe(monotonic() - started, route=route)
            await send(message)

        await self._app(scope, receive, counted)
