"""Whether traces are wanted: the standard `OTEL_…` variables say so, and nothing else does.

OpenTelemetry is imported only then: a service without an endpoint neither loads nor pays anything.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fedbus_runtime.settings import ServiceSettings

if TYPE_CHECKING:
    from fedbus_runtime.otlp import OtlpTracing

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
LAST_SPANS_TIMEOUT_S = 5.0
"""How long the end of a service waits for a collector to take its last spans."""


def traces_wanted(environment: Mapping[str, str]) -> bool:
    """Say whether there is somewhere to send spans, and sending is not switched off."""
    off = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    exporter = environment.get("OTEL_TRACES_EXPORTER", "otlp")
    return not off and exporter == "otlp" and any(environment.get(name) for name in ENDPOINTS)


@asynccontextmanager
async def tracing_of(settings: ServiceSettings) -> AsyncIterator["OtlpTracing | None"]:
    """Give what takes a service's spans, None when nobody wants any. Raises `SettingsFault`."""
    if not traces_wanted(os.environ):
        yield None
        return
    from fedbus_runtime.otlp import OtlpTracing  # half a second that only this needs

    service = type(settings).__module__.partition(".")[0].removeprefix("fedbus_")
    tracing = OtlpTracing(service, settings.instance, os.environ)
    try:
        yield tracing
    finally:
        try:
            async with asyncio.timeout(LAST_SPANS_TIMEOUT_S):
                await asyncio.to_thread(tracing.close)
        except TimeoutError:
            pass  # they are lost, and with them nothing but a view
