"""Spans that a client reports about itself: shown in the round's trace in its name, never trusted further.

Who sent them is attested, which trace they go into is known from the request itself, names and number are
bounded, and times are set right where the client's clock is wrong.
"""

from collections.abc import Mapping

import structlog
from fedbus_schemas.codec import Unreadable, read
from fedbus_schemas.ids import ClientId
from fedbus_schemas.traces import (
    CLIENT_SPANS,
    CLIENT_SPANS_BYTES_MAX,
    ClientSpan,
    ClientSpans,
    ClientWork,
    root_span,
    span_id,
)

from fedbus_runtime.spans import Kind, Span

SKEW_MAX_S = 0.25
"""A clock that is off by more than this, the way included, is set right."""
_NANOSECONDS = 1_000_000_000

_log = structlog.get_logger(__name__)


def reported(headers: Mapping[str, str], trace: str, client: ClientId, arrived: int) -> list[Span]:
    """Give a client's spans, the first being the one that holds the others; none when nothing is reported."""
    text = headers.get(CLIENT_SPANS)
    if text is None:
        return []
    try:
        if len(text) > CLIENT_SPANS_BYTES_MAX:
            raise Unreadable(f"{len(text)} bytes")
        told = read(ClientSpans, text.encode())
    except Unreadable as error:
        _log.info("client.spans.unreadable", why=str(error))
        return []
    skew_s = arrived / _NANOSECONDS - told.sent
    shift_s = skew_s if abs(skew_s) > SKEW_MAX_S else 0.0
    found = [_span(one, shift_s, trace, client, arrived) for one in told.spans]
    if not found:
        return []
    work = (
        "validation" if any(one.name is ClientWork.VALIDATE for one in told.spans) else "training"
    )
    whole = Span(
        "client",
        trace,
        root_span(trace),
        min(one.start for one in found),
        arrived,
        span_id(trace, f"client/{client}/{work}"),
        attributes={"fl.client": client},
        client=client,
    )
    if shift_s:
        whole.attributes["fl.clock_skew_s"] = round(skew_s, 3)
    for one in found:
        one.parent = whole.span
    return [whole, *found]


def _span(
    told: ClientSpan,
    shift_s: float,
    trace: str,
    client: ClientId,
    arrived: int,
) -> Span:
    start = min(int((told.start + shift_s) * _NANOSECONDS), arrived)
    lasted = told.seconds
    end = arrived if lasted is None else min(start + int(lasted * _NANOSECONDS), arrived)
    name = f"client.{told.name.value}"
    return Span(
        name,
        trace,
        None,
        start,
        end,
        kind=Kind.INTERNAL,
        attributes={"fl.client": client},
        client=client,
    )
