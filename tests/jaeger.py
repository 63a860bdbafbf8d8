"""A stand-in for Jaeger: takes spans by OTLP over HTTP, answers Jaeger's query API. All in memory.

    python -m tests.jaeger --port 4318

It keeps what real Jaeger keeps, in the JSON that Jaeger's own interface reads. A span that is sent twice,
byte for byte, is kept once, as Jaeger does.
"""

import argparse
import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias
from urllib.parse import parse_qs, urlsplit

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

Json: TypeAlias = Any

TRACES_MAX = 100
_KINDS = {1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer"}


@dataclass
class Store:
    """The spans, by trace, each with the resource that sent it; and metrics, which Jaeger has not."""

    traces: dict[str, dict[bytes, tuple[Resource, Span]]] = field(default_factory=dict)
    metrics: dict[tuple[str, str], Metric] = field(default_factory=dict)
    """The newest of each metric, by instance and name."""
    news: threading.Condition = field(default_factory=threading.Condition)

    def take(self, request: ExportTraceServiceRequest) -> None:
        """Keep what was sent."""
        with self.news:
            for sent in request.resource_spans:
                for scope in sent.scope_spans:
                    for span in scope.spans:
                        spans = self.traces.setdefault(span.trace_id.hex(), {})
                        bits = span.SerializeToString(deterministic=True)
                        spans[bits] = (sent.resource, span)
            self.news.notify_all()

    def measure(self, request: ExportMetricsServiceRequest) -> None:
        """Keep what was measured."""
        with self.news:
            for sent in request.resource_metrics:
                found = [a for a in sent.resource.attributes if a.key == "service.instance.id"]
                for scope in sent.scope_metrics:
                    for metric in scope.metrics:
                        self.metrics[found[0].value.string_value, metric.name] = metric
            self.news.notify_all()

    def services(self) -> list[str]:
        """Name the services that sent something."""
        with self.news:
            return sorted(
                {_service(one) for each in self.traces.values() for one, _ in each.values()}
            )

    def operations(self, service: str) -> list[str]:
        """Name what a service did."""
        with self.news:
            return sorted(
                {
                    span.name
                    for each in self.traces.values()
                    for resource, span in each.values()
                    if _service(resource) == service
                }
            )

    def trace(self, trace_id: str) -> Json | None:
        """Give one trace as Jaeger writes it."""
        with self.news:
            spans = list(self.traces.get(trace_id, {}).values())
        return _trace(trace_id, spans) if spans else None

    def search(self, service: str, limit: int) -> list[Json]:
        """Give the newest traces in which a service has a part."""
        with self.news:
            found = [
                (max(span.start_time_unix_nano for _, span in each.values()), trace_id)
                for trace_id, each in self.traces.items()
                if any(_service(resource) == service for resource, _ in each.values())
            ]
        newest = sorted(found, reverse=True)[:limit]
        return [one for _, trace_id in newest if (one := self.trace(trace_id)) is not None]

    def dependencies(self) -> list[Json]:
        """Count who is called by whom."""
        counts: dict[tuple[str, str], int] = {}
        with self.news:
            for each in self.traces.values():
                owners = {span.span_id: _service(resource) for resource, span in each.values()}
                for resource, span in each.values():
                    pair = (owners.get(span.parent_span_id, ""), _service(resource))
                    if pair[0] and pair[0] != pair[1]:
                        counts[pair] = counts.get(pair, 0) + 1
        return [
            {"parent": parent, "child": child, "callCount": count}
            for (parent, child), count in sorted(counts.items())
        ]


class _Handler(BaseHTTPRequestHandler):
    store: Store

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        match urlsplit(self.path).path:
            case "/v1/traces":
                self.store.take(ExportTraceServiceRequest.FromString(body))
                self._answer(200, b"", "application/x-protobuf")
            case "/v1/metrics":
                self.store.measure(ExportMetricsServiceRequest.FromString(body))
                self._answer(200, b"", "application/x-protobuf")
            case _:
                self._answer(404, b"")

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        asked = {name: values[-1] for name, values in parse_qs(url.query).items()}
        parts = url.path.strip("/").split("/")
        match parts:
            case ["api", "services"]:
                self._tell(self.store.services())
            case ["api", "services", service, "operations"]:
                self._tell(self.store.operations(service))
            case ["api", "traces"]:
                limit = int(asked.get("limit", "20"))
                self._tell(self.store.search(asked.get("service", ""), min(limit, TRACES_MAX)))
            case ["api", "traces", trace_id]:
                found = self.store.trace(trace_id)
                self._tell([found] if found else [], 200 if found else 404)
            case ["api", "dependencies"]:
                self._tell(self.store.dependencies())
            case _:
                self._answer(404, b"")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name there
        pass

    def _tell(self, data: list[Json], status: int = 200) -> None:
        body = {"data": data, "total": len(data), "limit": 0, "offset": 0, "errors": None}
        self._answer(status, json.dumps(body).encode(), "application/json")

    def _answer(self, status: int, body: bytes, kind: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@dataclass
class Jaeger:
    """A running stand-in. `otlp` is the endpoint for spans, `url` that of queries: here the same."""

    url: str
    store: Store

    @property
    def otlp(self) -> str:
        """What OTEL_EXPORTER_OTLP_ENDPOINT is."""
        return self.url


@contextmanager
def jaeger(port: int = 0) -> Iterator[Jaeger]:
    """Run one in threads of this process."""
    store = Store()
    handler = type("Handler", (_Handler,), {"store": store})
    with ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield Jaeger(f"http://127.0.0.1:{server.server_address[1]}", store)
        finally:
            server.shutdown()
            thread.join()


def _service(resource: Resource) -> str:
    found = [one.value.string_value for one in resource.attributes if one.key == "service.name"]
    return found[0] if found else ""


def _trace(trace_id: str, spans: list[tuple[Resource, Span]]) -> Json:
    processes: dict[bytes, tuple[str, Json]] = {}
    told = []
    for resource, span in spans:
        bits = resource.SerializeToString(deterministic=True)
        tags = [_tag(one) for one in resource.attributes if one.key != "service.name"]
        process = {"serviceName": _service(resource), "tags": tags}
        name, _ = processes.setdefault(bits, (f"p{len(processes) + 1}", process))
        told.append(_span(span, name))
    return {
        "traceID": trace_id,
        "spans": sorted(told, key=lambda one: one["startTime"]),
        "processes": dict(processes.values()),
        "warnings": None,
    }


def _span(span: Span, process: str) -> Json:
    trace_id = span.trace_id.hex()
    references = [
        {"refType": "FOLLOWS_FROM", "traceID": one.trace_id.hex(), "spanID": one.span_id.hex()}
        for one in span.links
    ]
    if span.parent_span_id:
        parent = {"refType": "CHILD_OF", "traceID": trace_id, "spanID": span.parent_span_id.hex()}
        references.insert(0, parent)
    tags = [_tag(one) for one in span.attributes]
    tags.append({"key": "span.kind", "type": "string", "value": _KINDS.get(span.kind, "internal")})
    if span.status.code == Status.STATUS_CODE_ERROR:
        tags.append({"key": "error", "type": "bool", "value": True})
        tags.append(
            {"key": "otel.status_description", "type": "string", "value": span.status.message}
        )
    return {
        "traceID": trace_id,
        "spanID": span.span_id.hex(),
        "operationName": span.name,
        "references": references,
        "startTime": span.start_time_unix_nano // 1000,
        "duration": (span.end_time_unix_nano - span.start_time_unix_nano) // 1000,
        "tags": tags,
        "logs": [
            {
                "timestamp": one.time_unix_nano // 1000,
                "fields": [
                    {"key": "event", "type": "string", "value": one.name},
                    *(_tag(each) for each in one.attributes),
                ],
            }
            for one in span.events
        ],
        "processID": process,
        "warnings": None,
    }


def _tag(pair: KeyValue) -> Json:
    value: AnyValue = pair.value
    match value.WhichOneof("value"):
        case "bool_value":
            return {"key": pair.key, "type": "bool", "value": value.bool_value}
        case "int_value":
            return {"key": pair.key, "type": "int64", "value": value.int_value}
        case "double_value":
            return {"key": pair.key, "type": "float64", "value": value.double_value}
        case "array_value":
            values = [one.string_value for one in value.array_value.values]
            return {"key": pair.key, "type": "string", "value": json.dumps(values)}
        case _:
            return {"key": pair.key, "type": "string", "value": value.string_value}


def main() -> None:
    """Run one until it is interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=4318, help="for spans and for queries")
    with jaeger(parser.parse_args().port) as running:
        print(f"spans and queries at {running.url}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
