"""Whether traces and metrics are sent: the standard `OTEL_…` variables say so, and nothing else does.

OpenTelemetry is imported only then: a service without an endpoint neither loads nor pays anything.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Literal

from fedbus_runtime.errors import SettingsFault
from fedbus_runtime.metrics import BUILD, REGISTRY
from fedbus_runtime.settings import ServiceSettings

if TYPE_CHECKING:
    from fedbus_runtime.otlp import OtlpTracing
    from fedbus_runtime.otlp_metrics import OtlpMetrics

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
METRICS_EVERY_MS = 60_000
"""OpenTelemetry's default of OTEL_METRIC_EXPORT_INTERVAL."""
LAST_TIMEOUT_S = 5.0
"""How long the end of a service waits for a collector to take its last spans."""


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What takes a service's spans and metrics; None = nobody wants them."""

    tracing: "OtlpTracing | None" = None
    metrics: "OtlpMetrics | None" = None
    every_s: float = METRICS_EVERY_MS / 1000

    def close(self) -> None:
        """Send what waits."""
        if self.tracing is not None:
            self.tracing.close()
        if self.metrics is not None:
            self.metrics.send()
            self.metrics.close()


def wanted(signal: Literal["TRACES", "METRICS"], environment: Mapping[str, str]) -> bool:
    """Say whether there is somewhere to send this, and sending is not switched off.

    Raises `SettingsFault` for a protocol that is not spoken here.
    """
    off = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    exporter = environment.get(f"OTEL_{signal}_EXPORTER", "otlp")
    endpoint = environment.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT") or environment.get(ENDPOINT)
    if off or exporter != "otlp" or not endpoint:
        return False
    protocol = environment.get(f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL") or environment.get(
        "OTEL_EXPORTER_OTLP_PROTOCOL", ""
    )
    if protocol not in ("", "http/protobuf"):
        raise SettingsFault(
            f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol}; fedbus speaks http/protobuf only (port 4318)"
        )
    return True


@asynccontextmanager
async def telemetry_of(settings: ServiceSettings) -> AsyncIterator[Telemetry]:
    """Give what takes a service's spans and metrics. Raises `SettingsFault`."""
    service = type(settings).__module__.partition(".")[0].removeprefix("fedbus_")
    BUILD.set(1, service=service, version=version("fedbus-runtime"))
    telemetry = _open(service, settings.instance, os.environ)
    try:
        yield telemetry
    finally:
        try:
            async with asyncio.timeout(LAST_TIMEOUT_S):
                await asyncio.to_thread(telemetry.close)
        except TimeoutError:
            pass  # they are lost, and with them nothing but a view


def _open(service: str, instance: str, environment: Mapping[str, str]) -> Telemetry:
    traces, metrics = wanted("TRACES", environment), wanted("METRICS", environment)
    if not traces and not metrics:
        return Telemetry()
    # Half a second of loading that only this needs.
    from fedbus_runtime.otlp import OtlpTracing, resource_of

    resource = resource_of(service, instance, environment)
    tracing = OtlpTracing(resource) if traces else None
    if not metrics:
        return Telemetry(tracing)
    from fedbus_runtime.otlp_metrics import OtlpMetrics

    try:
        every_s = int(environment.get("OTEL_METRIC_EXPORT_INTERVAL", METRICS_EVERY_MS)) / 1000
    except ValueError as error:
        raise SettingsFault("OTEL_METRIC_EXPORT_INTERVAL must be whole milliseconds") from error
    return Telemetry(tracing, OtlpMetrics(REGISTRY, resource), max(every_s, 1.0))
