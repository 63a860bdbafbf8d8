"""The list of metrics: whole, readable, bounded; the same numbers at /metrics and by OTLP."""

import asyncio
import re

import pytest
from fedbus_runtime import metrics
from fedbus_runtime.health import HealthServer
from fedbus_runtime.metrics import METRICS, REGISTRY
from fedbus_runtime.otlp_metrics import OtlpMetrics
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

NAME = re.compile(r"fedbus_[a-z]+(_[a-z]+)*")
FEW = {
    "code", "consumer", "method", "outcome", "phase", "project", "route", "service", "status", "verb",
    "version",
}  # fmt: skip


@pytest.mark.parametrize("metric", METRICS, ids=lambda one: one.name)
def test_each_has_a_name_a_sentence_and_labels_of_few_values(metric: metrics.Metric) -> None:
    assert NAME.fullmatch(metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert metric.text.endswith(".")
    assert "\n" not in metric.text
    assert set(metric.labels) <= FEW


def test_the_list_is_what_is_registered() -> None:
    shown = {family.name for family in REGISTRY.collect() if family.name.startswith("fedbus_")}
    assert shown == {one.name.removesuffix("_total") for one in METRICS}
    assert len({one.name for one in METRICS}) == len(METRICS)


async def test_they_are_answered_at_their_path_and_nowhere_else() -> None:
    async def measure() -> str:
        return "fedbus_bus_connected 1.0\n"

    server = HealthServer(dict, measure)

    async def ask(head: str) -> str:
        return (await server._response(f"{head} HTTP/1.1\r\n\r\n".encode())).decode()

    answer = await ask("GET /metrics")
    assert answer.startswith("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4")
    assert answer.endswith("\r\n\r\nfedbus_bus_connected 1.0\n")
    assert (await ask("GET /metricsx")).startswith("HTTP/1.1 404")
    assert (await ask("POST /metrics")).startswith("HTTP/1.1 405")
    assert '"alive": true' in await ask("GET /healthz")


def test_otlp_has_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    registry = CollectorRegistry()
    counter = Counter("c_total", "C.", ["code"], registry=registry)
    counter.labels("late").inc(3)
    Gauge("g", "G.", registry=registry).set(2.5)
    histogram = Histogram("h_seconds", "H.", ["verb"], buckets=(0.1, 1.0), registry=registry)
    for value in (0.05, 0.5, 0.6, 7.0):
        histogram.labels("submit").observe(value)
    sender = OtlpMetrics(registry, Resource.create({}))
    found = {one.name: one for one in sender.points(99)}
    sender.close()
    assert found.keys() == {"c", "g", "h_seconds"}
    [count] = found["c"].data.data_points
    assert (count.value, count.attributes) == (3.0, {"code": "late"})
    [gauge] = found["g"].data.data_points
    assert gauge.value == 2.5
    [point] = found["h_seconds"].data.data_points
    assert (point.count, point.bucket_counts, point.explicit_bounds) == (4, [1, 2, 1], [0.1, 1.0])
    assert point.sum == pytest.approx(8.15)
    assert found["h_seconds"].unit == "s"


def test_time_is_taken_however_it_ends() -> None:
    before = REGISTRY.get_sample_value("fedbus_ask_seconds_count", {"verb": "beat"}) or 0.0
    with pytest.raises(asyncio.CancelledError), metrics.ASK_SECONDS.timed(verb="beat"):
        raise asyncio.CancelledError
    after = REGISTRY.get_sample_value("fedbus_ask_seconds_count", {"verb": "beat"})
    assert after == before + 1
