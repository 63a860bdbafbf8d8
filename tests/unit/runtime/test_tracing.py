"""Spans of a service: nothing without somebody to take them, and never a child without its parent."""

import asyncio
import json
import time
from collections.abc import Sequence

import pytest
from fedbus_runtime import otlp, tracing
from fedbus_runtime.client_spans import reported
from fedbus_runtime.errors import SettingsFault, TelemetryAway
from fedbus_runtime.otlp import OtlpTracing, resource_of
from fedbus_runtime.ports import RoundKey
from fedbus_runtime.spans import Kind, Span
from fedbus_runtime.telemetry import wanted
from fedbus_schemas.traces import (
    CLIENT_SPANS,
    CLIENT_SPANS_BYTES_MAX,
    ClientSpan,
    ClientSpans,
    ClientWork,
    root_span,
    trace_id,
)
from opentelemetry.sdk.trace.export import SpanExportResult

KEY = RoundKey("p", "s-1", 2, 1)
TRACE = trace_id("p", "s-1", 2, 1)
CLIENT = "c" + "a" * 16
SECOND = 1_000_000_000


class Shown:
    """Takes spans."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def show(self, spans: Sequence[Span]) -> None:
        self.spans += spans

    async def deliver(self, spans: Sequence[Span]) -> None:
        self.show(spans)


@pytest.fixture(autouse=True)
def all_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show steps however short they are, unless a test is about that."""
    monkeypatch.setattr(tracing, "SHORT_NS", 0)


def test_steps_that_took_no_time_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "SHORT_NS", SECOND)
    shown = Shown()
    with tracing.scope(shown, Kind.CONSUMER, {}):
        tracing.about("finish", KEY)
        with tracing.step("send INBOX", Kind.PRODUCER, {}):
            pass
        with (
            pytest.raises(ValueError, match="away"),
            tracing.step("send INBOX", Kind.PRODUCER, {}),
        ):
            raise ValueError("away")
    work, failed = shown.spans
    assert work.attributes["fl.steps.left_out"] == 1
    assert failed.error == "ValueError", "what fails is shown, however fast"


def test_work_hangs_from_the_round_and_steps_from_the_work() -> None:
    shown = Shown()
    with tracing.scope(shown, Kind.CONSUMER, {"fl.deliveries": 2}):
        tracing.about("finish", KEY)
        with tracing.step("store.get models", Kind.CLIENT, {}):
            pass
        tracing.tell(step=1)
        assert shown.spans == [], "a process that dies now leaves no child behind"
    work, step = shown.spans
    assert (work.name, work.trace, work.parent) == ("finish", TRACE, root_span(TRACE))
    assert (step.trace, step.parent) == (TRACE, work.span)
    assert work.attributes["fl.deliveries"] == 2
    assert work.attributes["fl.step"] == 1
    assert work.start <= step.start <= step.end <= work.end


def test_work_that_is_about_no_round_is_not_shown() -> None:
    shown = Shown()
    with tracing.scope(shown, Kind.SERVER, {}):
        with tracing.step("store.get models", Kind.CLIENT, {}):
            tracing.tell(step=1)
        tracing.failed("late")
        tracing.happened("held")
    assert shown.spans == []


def test_without_anybody_to_take_them_nothing_happens() -> None:
    with tracing.scope(None, Kind.SERVER, {}):
        tracing.about("finish", KEY)
        with tracing.step("store.get models", Kind.CLIENT, {}) as step:
            assert step is None
        assert tracing.current() is None
        assert tracing.named_trace() is None


def test_what_fails_shows_its_kind_and_no_words() -> None:
    shown = Shown()
    with (
        pytest.raises(ValueError, match="http"),
        tracing.scope(shown, Kind.SERVER, {}),
    ):
        tracing.about("ingest", KEY, CLIENT)
        raise ValueError("http://somewhere/?X-Amz-Signature=secret")
    [work] = shown.spans
    assert work.error == work.attributes["error.type"] == "ValueError"
    assert "http" not in json.dumps(work.attributes)


def test_too_many_steps_are_counted_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "STEPS_MAX", 2)
    shown = Shown()
    with tracing.scope(shown, Kind.CONSUMER, {}):
        tracing.about("finish", KEY)
        for _ in range(5):
            with tracing.step("store.get updates", Kind.CLIENT, {}):
                pass
    assert len(shown.spans) == 3
    assert shown.spans[0].attributes["fl.steps.left_out"] == 3


def headers(sent: float, *spans: ClientSpan) -> dict[str, str]:
    return {CLIENT_SPANS: ClientSpans(sent=sent, spans=spans).to_bytes().decode()}


def test_a_clients_spans_lie_below_one_of_its_own() -> None:
    told = headers(
        1003.0,
        ClientSpan(name=ClientWork.TRAIN, start=1000.0, seconds=2.0),
        ClientSpan(name=ClientWork.UPLOAD, start=1002.0),
    )
    whole, train, upload = reported(told, TRACE, CLIENT, int(1003.1 * SECOND))
    assert (whole.name, whole.parent) == ("client", root_span(TRACE))
    assert {train.parent, upload.parent} == {whole.span}
    assert (train.start, train.end) == (1000 * SECOND, 1002 * SECOND)
    assert upload.end == whole.end == int(1003.1 * SECOND)
    assert whole.start == train.start
    assert {one.client for one in (whole, train, upload)} == {CLIENT}
    again, *_ = reported(told, TRACE, CLIENT, int(1004.1 * SECOND))
    assert again.span == whole.span, "sent again it is the same span"


def test_a_wrong_clock_is_set_right() -> None:
    told = headers(5.0, ClientSpan(name=ClientWork.TRAIN, start=1.0, seconds=3.0))
    whole, train = reported(told, TRACE, CLIENT, 2000 * SECOND)
    assert (train.start, train.end) == (1996 * SECOND, 1999 * SECOND)
    assert whole.attributes["fl.clock_skew_s"] == 1995.0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no json",
        '{"sent":1}',
        '{"sent":1,"spans":[{"name":"steal","start":1}]}',
        '{"sent":1e300,"spans":[]}',
        '{"sent":1,"spans":[]}' + " " * CLIENT_SPANS_BYTES_MAX,
        '{"sent":1,"spans":[]}',
    ],
)
def test_a_report_that_is_none_shows_nothing(text: str) -> None:
    assert reported({CLIENT_SPANS: text}, TRACE, CLIENT, SECOND) == []
    assert reported({}, TRACE, CLIENT, SECOND) == []


@pytest.mark.parametrize(
    ("environment", "traces", "metrics"),
    [
        ({}, False, False),
        ({"OTEL_SERVICE_NAME": "x"}, False, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://here:4318"}, True, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://here:4318/v1/traces"}, True, False),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://here:4318/v1/metrics"}, False, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"}, False, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"}, False, True),
    ],
)
def test_the_standard_variables_say_what_is_wanted(
    environment: dict[str, str], traces: bool, metrics: bool
) -> None:
    assert (wanted("TRACES", environment), wanted("METRICS", environment)) == (traces, metrics)


def test_another_protocol_is_refused_with_what_to_do() -> None:
    with pytest.raises(SettingsFault, match="http/protobuf only"):
        wanted(
            "TRACES",
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://here:4317",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            },
        )


def test_all_services_agree_which_rounds_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
    names = ("controller", "combiner")
    services = [OtlpTracing(resource_of(name, f"{name}-1", {})) for name in names]
    found = []
    for service in services:
        ids = [trace_id("p", "s", number, 1) for number in range(1, 101)]
        found.append([service._is_shown(one) for one in ids])
        service.close()
    assert found[0] == found[1]
    assert 30 < sum(found[0]) < 70


class Collector:
    """An exporter that takes what it is given, when it is there."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.away = False

    def export(self, spans: Sequence[object]) -> SpanExportResult:
        self.calls.append(len(spans))
        return SpanExportResult.FAILURE if self.away else SpanExportResult.SUCCESS


async def test_rounds_that_end_together_are_sent_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(otlp, "GATHER_S", 0.02)
    tracing_, collector = OtlpTracing(resource_of("controller", "c-1", {})), Collector()
    monkeypatch.setattr(tracing_, "_exporter", collector)
    spans = [Span("round", trace_id("p", "s", number, 1), None, 1, 2) for number in range(5)]
    await asyncio.gather(*(tracing_.deliver([span]) for span in spans))
    assert collector.calls == [5]
    collector.away = True
    failed = await asyncio.gather(
        *(tracing_.deliver([span]) for span in spans), return_exceptions=True
    )
    assert all(isinstance(one, TelemetryAway) for one in failed), "none is taken for sent"
    collector.away = False
    await tracing_.deliver(spans[:1])
    assert collector.calls[-1] == 1, "who gave up is not sent for"
    tracing_.close()


def test_time_is_the_worlds() -> None:
    shown, before = Shown(), time.time_ns()
    with tracing.scope(shown, Kind.SERVER, {}):
        tracing.about("ingest", KEY)
    assert before <= shown.spans[0].start <= shown.spans[0].end <= time.time_ns()
