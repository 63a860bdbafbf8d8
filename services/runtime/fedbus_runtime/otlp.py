"""Spans by OTLP over HTTP, set up by the standard `OTEL_…` variables; imported only when they ask for it."""

import asyncio
from collections.abc import Mapping, Sequence
from functools import lru_cache

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.environment_variables import OTEL_SERVICE_NAME
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from fedbus_runtime.errors import TelemetryAway
from fedbus_runtime.joined import Joined
from fedbus_runtime.spans import Kind, Span

GATHER_S = 0.5
"""How long delivered spans wait for others, to be sent with them in one request."""
SAMPLED_MAX = 4_096
"""Traces of which it is remembered whether they are shown."""

_KINDS = {
    Kind.INTERNAL: SpanKind.INTERNAL,
    Kind.SERVER: SpanKind.SERVER,
    Kind.CLIENT: SpanKind.CLIENT,
    Kind.PRODUCER: SpanKind.PRODUCER,
    Kind.CONSUMER: SpanKind.CONSUMER,
}
_SCOPE = InstrumentationScope("fedbus")
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


class OtlpTracing:
    """`spans.Tracing` on OpenTelemetry's exporter."""

    def __init__(self, resource: Resource) -> None:
        self._resource = resource
        self._sampler = TracerProvider(
            resource=self._resource, shutdown_on_exit=False
        ).sampler  # as OTEL_TRACES_SAMPLER says
        self._exporter = OTLPSpanExporter()
        self._processor = BatchSpanProcessor(self._exporter)
        self._waiting: dict[object, list[ReadableSpan]] = {}
        self._sending = Joined[None]()
        self._is_shown = lru_cache(SAMPLED_MAX)(self._sample)
        self._clients = resource_of("client", None, {})

    def show(self, spans: Sequence[Span]) -> None:
        """Queue spans; see `spans.Tracing`."""
        for span in spans:
            if self._is_shown(span.trace):
                self._processor.on_end(self._made(span))

    async def deliver(self, spans: Sequence[Span]) -> None:
        """Send spans and wait, together with what others want to send; see `spans.Tracing`."""
        made = [self._made(span) for span in spans if self._is_shown(span.trace)]
        if not made:
            return
        mine = object()
        self._waiting[mine] = made
        try:
            await self._sending.call(self._send)
        finally:
            self._waiting.pop(mine, None)

    async def _send(self) -> None:
        """Gather for a moment, and send all that wait; who came late and failed waits on in the next call."""
        await asyncio.sleep(GATHER_S)
        taken = dict(self._waiting)
        spans = [span for made in taken.values() for span in made]
        if not spans:
            return
        result = await asyncio.to_thread(self._exporter.export, spans)
        if result is not SpanExportResult.SUCCESS:
            raise TelemetryAway("the collector did not take the spans")
        for one in taken:
            self._waiting.pop(one, None)

    def close(self) -> None:
        """Send what waits, and end; takes as long as OTEL_BSP_EXPORT_TIMEOUT allows."""
        self._processor.shutdown()  # type: ignore[no-untyped-call]  # untyped there

    def _sample(self, trace: str) -> bool:
        """Whether a trace is shown: by its id alone, so that all services agree."""
        found = self._sampler.should_sample(None, int(trace, 16), "round")
        return found.decision is not Decision.DROP

    def _made(self, span: Span) -> ReadableSpan:
        resource = self._resource if span.client is None else self._clients
        status = Status(StatusCode.UNSET if span.error is None else StatusCode.ERROR, span.error)
        return ReadableSpan(
            span.name,
            _context(span.trace, span.span),
            None if span.parent is None else _context(span.trace, span.parent),
            resource,
            span.attributes,
            [Event(name, attributes, at) for name, at, attributes in span.events],
            [Link(_context(*link)) for link in span.links],
            _KINDS[span.kind],
            status=status,
            start_time=span.start,
            end_time=span.end,
            instrumentation_scope=_SCOPE,
        )


def _context(trace: str, span: str) -> SpanContext:
    return SpanContext(int(trace, 16), int(span, 16), is_remote=False, trace_flags=_SAMPLED)


def resource_of(service: str, instance: str | None, environment: Mapping[str, str]) -> Resource:
    """Say who tells this; OTEL_RESOURCE_ATTRIBUTES adds to it, OTEL_SERVICE_NAME names it otherwise."""
    own = {"service.namespace": "fedbus"}
    if instance is not None:
        own["service.instance.id"] = instance
    if OTEL_SERVICE_NAME not in environment:
        own["service.name"] = f"fedbus-{service}"
    return Resource.create(own)
