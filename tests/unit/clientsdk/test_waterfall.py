"""The waterfall in the terminal: who, what, how long, in proportion."""

from datetime import UTC, datetime

from fedbus._waterfall import Form, waterfall
from fedbus_schemas.views import Outcome, SpanView, TimelineView

A, B = "c" + "a" * 16, "c" + "b" * 16
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def span(name: str, who: str, start_s: float, end_s: float) -> SpanView:
    return SpanView.model_validate({"name": name, "who": who, "start_s": start_s, "end_s": end_s})


def view(*spans: SpanView, duration_s: float | None = 2.0, left_out: int = 0) -> TimelineView:
    return TimelineView(
        session="s-1",
        number=3,
        attempt=1,
        outcome=Outcome.COMPLETED if duration_s else Outcome.OPEN,
        trace_id="ab" * 16,
        opened=NOW,
        duration_s=duration_s,
        spans=spans,
        left_out=left_out,
    )


ROUND = (
    span("download", A, 0.0, 0.1),
    span("train", A, 0.1, 1.0),
    span("upload", A, 1.0, 1.0),
    span("stored", A, 1.0, 1.0),
    span("train", B, 0.0, 1.5),
    span("stored", B, 1.5, 1.5),
    span("closing", "controller", 1.5, 1.6),
    span("store", "combiner-1", 1.6, 1.9),
    span("completed", "controller", 1.9, 2.0),
)


def test_each_stretch_has_a_bar_of_its_length() -> None:
    lines = list(waterfall(view(*ROUND), {A: "north", B: "south"}, Form(width=80)))
    assert lines[0] == "s-1 round 3.1: completed in 2.00 s"
    assert lines[1] == "trace " + "ab" * 16
    drawn = {line.split("|")[0].strip(): line for line in lines if "|" in line}
    assert list(drawn) == [
        "north       download",
        "north       train",
        "south       train",
        "controller  closing",
        "combiner-1  store model",
        "controller  commit",
    ]
    bars = {key: line.split("|")[1] for key, line in drawn.items()}
    columns = len(bars["south       train"])
    assert {len(bar) for bar in bars.values()} == {columns}
    assert bars["south       train"].count("█") == round(0.75 * columns)
    assert bars["controller  commit"].rstrip().endswith("█")
    assert bars["north       train"].index("█") == int(0.05 * columns)
    assert "waited 1.50 s (75%) for the clients, the last was south" in lines
    assert "then 500.0 ms (25%) on the servers" in lines
    assert max(map(len, lines)) <= 80


def test_of_many_clients_the_slowest_are_drawn() -> None:
    clients = [f"c{letter * 16}" for letter in "abcdefgh"]
    spans = [
        each
        for number, client in enumerate(clients)
        for each in (
            span("train", client, 0.0, 0.1 * (1 + number)),
            span("stored", client, 0.1 * (1 + number), 0.1 * (1 + number)),
        )
    ]
    lines = list(waterfall(view(*spans, left_out=4), {}, Form(clients_max=3)))
    assert sum(" train " in line for line in lines) == 3
    assert any(line.startswith(clients[-1]) for line in lines)
    assert not any(line.startswith(clients[0]) for line in lines)
    assert "… and 5 clients that were faster" in lines
    assert "… and 4 clients that the api leaves out" in lines


def test_a_round_that_is_open_or_empty_can_be_drawn() -> None:
    assert next(iter(waterfall(view(duration_s=None), {}, Form()))) == "s-1 round 3.1: still open"
    lines = list(waterfall(view(*ROUND[:4], duration_s=None), {}, Form(width=10, bar="#")))
    assert any("#" in line for line in lines)
    assert not any(line.startswith("then") for line in lines)
