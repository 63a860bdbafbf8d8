"""Questions over HTTP: `/healthz` (is the process alive?), `/readyz` (is it connected and at work?), and
`/metrics` (how much did it do, as Prometheus reads it?).

Small on purpose: GET only, one answer a connection, bounded in size, time and number.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping

REQUEST_BYTES_MAX = 8192
REQUEST_TIMEOUT_S = 5.0
CONNECTIONS_MAX = 64
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_REASONS = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


class HealthServer:
    """Serves the questions. `missing` tells what is not ready; empty = ready. `measure` gives the metrics."""

    def __init__(
        self, missing: Callable[[], Mapping[str, str]], measure: Callable[[], Awaitable[str]]
    ) -> None:
        self._missing = missing
        self._measure = measure
        self._open = 0

    async def serve(self, host: str, port: int) -> None:
        """Answer until cancelled."""
        server = await asyncio.start_server(self._answer, host, port, limit=REQUEST_BYTES_MAX)
        async with server:
            await server.serve_forever()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open > CONNECTIONS_MAX:
                return
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(await self._response(head))
                await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            return
        finally:
            self._open -= 1
            writer.close()

    async def _response(self, head: bytes) -> bytes:
        method, path = [*head.split(b" ", 2), b"", b""][:2]
        kind = "application/json"
        if method == b"GET" and path.partition(b"?")[0] == b"/metrics":
            status, body, kind = 200, (await self._measure()).encode(), METRICS_TYPE
        else:
            status, content = self._judge(method.decode("latin-1"), path.decode("latin-1"))
            body = json.dumps(content).encode() + b"\n"
        lines = (
            f"HTTP/1.1 {status} {_REASONS[status]}",
            f"Content-Type: {kind}",
            f"Content-Length: {len(body)}",
            "Cache-Control: no-store",
            "Connection: close",
        )
        return "\r\n".join([*lines, "", ""]).encode() + (b"" if method == b"HEAD" else body)

    def _judge(self, method: str, path: str) -> tuple[int, dict[str, object]]:
        if method not in {"GET", "HEAD"}:
            return 405, {"error": "GET only"}
        match path.partition("?")[0]:
            case "/healthz":
                return 200, {"alive": True}
            case "/readyz":
                missing = dict(self._missing())
                return (503 if missing else 200), {"ready": not missing, "missing": missing}
            case _:
                return 404, {"error": "there are /healthz, /readyz and /metrics"}
