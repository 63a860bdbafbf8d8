"""Ports whose calls show up in the round's trace: messages sent, requests answered, blobs moved.

They follow OpenTelemetry's conventions for messaging, with the stream's name as the destination: subjects
hold sessions and devices, so they would be no names. What is stored carries the span it came from.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, TypeAlias, cast

from fedbus_schemas import subjects
from fedbus_schemas.streams import STREAMS
from fedbus_schemas.traces import TRACEPARENT, traceparent

from fedbus_runtime import tracing
from fedbus_runtime.connections import Connections
from fedbus_runtime.message_spans import messaging
from fedbus_runtime.ports import Request
from fedbus_runtime.spans import Attributes, Kind, Span, Tracing

Port: TypeAlias = Any  # whichever protocol of `ports` is wrapped

_STREAM_OF = {
    subjects.token(pattern, 2): stream.name for stream in STREAMS for pattern in stream.subjects
}
_MAIL = "MBOX"


def traced(ports: Connections, shown: Tracing | None) -> Connections:
    """Give the ports with spans, or as they are when nobody takes spans."""
    if shown is None:
        return ports
    wrapped: dict[str, Port] = {
        "streams": _TracedStreams(ports.streams),
        "wire": _TracedWire(ports.wire, shown),
        "blobs": _TracedBlobs(ports.blobs),
    }
    return replace(ports, **wrapped)


class _Traced:
    """A port; all that is not traced is the port's own."""

    def __init__(self, port: Port) -> None:
        self._port = port

    def __getattr__(self, name: str) -> Port:
        return getattr(self._port, name)


class _TracedStreams(_Traced):
    async def append(
        self,
        subject: str,
        data: bytes,
        *,
        headers: Mapping[str, str] | None = None,
        **more: object,
    ) -> int:
        span = tracing.current()
        stream = _STREAM_OF[subjects.token(subject, 2)]
        if span is not None:
            headers = {**(headers or {}), TRACEPARENT: traceparent(span.trace, span.span)}
        if stream == _MAIL:  # one for each client: their number is enough
            if span is not None:
                sent = span.attributes.get("messaging.batch.message_count", 0)
                assert isinstance(sent, int)
                span.attributes["messaging.batch.message_count"] = sent + 1
            return cast(int, await self._port.append(subject, data, headers=headers, **more))
        with tracing.step(f"send {stream}", Kind.PRODUCER, messaging(stream, "send")):
            return cast(int, await self._port.append(subject, data, headers=headers, **more))


class _TracedWire(_Traced):
    def __init__(self, port: Port, shown: Tracing) -> None:
        super().__init__(port)
        self._shown = shown

    async def request(self, subject: str, data: bytes, timeout_s: float) -> bytes:
        name = subjects.token(subject, 2)
        with tracing.step(f"request {name}", Kind.CLIENT, messaging(name, "send")):
            return cast(bytes, await self._port.request(subject, data, timeout_s))

    def serve(
        self, subject: str, queue: str, handler: Callable[[Request], Awaitable[bytes | None]]
    ) -> Awaitable[None]:
        attributes = messaging(subjects.token(subject, 2), "process")

        async def answer(request: Request) -> bytes | None:
            with tracing.scope(self._shown, Kind.SERVER, attributes, headers=request.headers):
                return await handler(request)

        return cast(Awaitable[None], self._port.serve(subject, queue, answer))


class _TracedBlobs(_Traced):
    async def put(self, key: str, parts: Sequence[bytes | bytearray | memoryview]) -> None:
        size = sum(memoryview(part).nbytes for part in parts)
        with _storing("put", key, size):
            await self._port.put(key, parts)

    async def get(self, key: str, size_max: int) -> bytearray:
        with _storing("get", key, size_max):
            return cast(bytearray, await self._port.get(key, size_max))


def _storing(verb: str, key: str, size: int) -> AbstractContextManager[Span | None]:
    kind = key.split("/")[1]
    attributes: Attributes = {"fl.blob.kind": kind, "fl.blob.bytes": size}
    return tracing.step(f"store.{verb} {kind}", Kind.CLIENT, attributes)
