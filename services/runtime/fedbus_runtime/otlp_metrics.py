"""The metrics by OTLP over HTTP, beside `/metrics`: the same names and numbers, from the same registry."""

import asyncio
import time
from collections.abc import Iterable, Iterator
from itertools import pairwise

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import CollectorRegistry
from prometheus_client.samples import Sample

_CUMULATIVE = AggregationTemporality.CUMULATIVE
_SCOPE = InstrumentationScope("fedbus")


class OtlpMetrics:
    """Sends what a registry holds."""

    def __init__(self, registry: CollectorRegistry, resource: Resource) -> None:
        self._registry = registry
        self._resource = resource
        self._exporter = OTLPMetricExporter()
        self._since = time.time_ns()

    async def run(self, every_s: float) -> None:
        """Send again and again until cancelled. A collector that is away misses a point of each line."""
        while True:
            await asyncio.sleep(every_s)
            await asyncio.to_thread(self.send)

    def send(self) -> None:
        """Send once; the exporter logs when that fails."""
        scope = ScopeMetrics(_SCOPE, list(self.points(time.time_ns())), "")
        self._exporter.export(MetricsData([ResourceMetrics(self._resource, [scope], "")]))

    def close(self) -> None:
        """End."""
        self._exporter.shutdown()

    def points(self, now: int) -> Iterator[Metric]:
        """Yield all metrics as OpenTelemetry writes them."""
        for family in self._registry.collect():
            samples = [one for one in family.samples if not one.name.endswith("_created")]
            name, unit = family.name, "s" if "seconds" in family.name else ""
            if family.type == "histogram":
                points = list(self._histograms(samples, now))
                yield Metric(name, family.documentation, unit, Histogram(points, _CUMULATIVE))
            elif family.type == "counter":
                numbers = self._numbers(samples, now)
                yield Metric(
                    name, family.documentation, unit, Sum(numbers, _CUMULATIVE, is_monotonic=True)
                )
            else:
                yield Metric(name, family.documentation, unit, Gauge(self._numbers(samples, now)))

    def _numbers(self, samples: Iterable[Sample], now: int) -> list[NumberDataPoint]:
        return [NumberDataPoint(one.labels, self._since, now, one.value) for one in samples]

    def _histograms(self, samples: Iterable[Sample], now: int) -> Iterator[HistogramDataPoint]:
        """Gather a histogram's samples, which come bucket by bucket and add up, into one point a label set."""
        groups: dict[tuple[tuple[str, str], ...], dict[str, float]] = {}
        for one in samples:
            labels = tuple(sorted((key, text) for key, text in one.labels.items() if key != "le"))
            part = one.labels.get("le", one.name.rpartition("_")[2])
            groups.setdefault(labels, {})[part] = one.value
        for labels, parts in groups.items():
            total, count = parts.pop("sum"), int(parts.pop("count"))
            bounds = sorted(parts, key=float)
            sums = [0, *(int(parts[bound]) for bound in bounds)]
            yield HistogramDataPoint(
                attributes=dict(labels),
                start_time_unix_nano=self._since,
                time_unix_nano=now,
                count=count,
                sum=total,
                bucket_counts=[after - before for before, after in pairwise(sums)],
                explicit_bounds=[float(bound) for bound in bounds if bound != "+Inf"],
                min=None,  # type: ignore[arg-type]  # unset on the wire: nobody keeps it
                max=None,  # type: ignore[arg-type]
            )
