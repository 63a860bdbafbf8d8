"""The ids of a round's trace, and the headers that carry it."""

import pytest
from fedbus_schemas import traces
from fedbus_schemas.traces import read_traceparent, root_span, span_id, trace_id, traceparent


def test_a_trace_has_a_derived_id() -> None:
    ids = {trace_id("p", "s", number, attempt) for number in (1, 2) for attempt in (1, 2)}
    assert len(ids) == 4
    assert trace_id("p", "s", 1, 1) == "b8894bf7ac016ac8eeeb8179b6224b76"


def test_spans_of_a_trace_have_derived_ids_of_their_own() -> None:
    trace = trace_id("p", "s", 1, 1)
    spans = {root_span(trace), span_id(trace, "collect/1"), span_id(trace, "collect/2")}
    assert len(spans) == 3
    assert all(len(one) == 16 and int(one, 16) for one in spans)


def test_the_header_is_read_back() -> None:
    trace = trace_id("p", "s", 1, 1)
    assert read_traceparent(traceparent(trace, root_span(trace))) == (trace, root_span(trace))


@pytest.mark.parametrize(
    "text", ["", "00-ab-cd-01", "01-" + "a" * 32 + "-" + "b" * 16 + "-01", "x" * 99]
)
def test_what_is_no_header_gives_nothing(text: str) -> None:
    assert read_traceparent(text) is None


def test_a_client_cannot_report_without_bounds() -> None:
    span = traces.ClientSpan(name=traces.ClientWork.TRAIN, start=1.0, seconds=2.0)
    whole = traces.ClientSpans(sent=3.0, spans=(span,) * traces.CLIENT_SPANS_MAX)
    assert len(whole.to_bytes()) < traces.CLIENT_SPANS_BYTES_MAX
    with pytest.raises(ValueError, match="at most"):
        traces.ClientSpans(sent=3.0, spans=(span,) * (traces.CLIENT_SPANS_MAX + 1))
