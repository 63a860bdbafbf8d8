"""The interleaved log: in order, bounded, readable after a crash; and how it looks."""

from pathlib import Path

from fedbus_local import views
from fedbus_local.feed import WAITING_MAX, Feed
from fedbus_local.journal import FILE, Journal, read


def test_lines_are_read_in_the_order_of_writing(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for number in range(10):
        journal.write(f"p{number % 2}", f"line {number}")
    journal.close()
    assert [each["line"] for each in read(tmp_path, 3)] == ["line 7", "line 8", "line 9"]
    assert [each["line"] for each in read(tmp_path, 2, "p0")] == ["line 6", "line 8"]


def test_the_log_never_grows_beyond_its_bound(tmp_path: Path) -> None:
    journal = Journal(tmp_path, part_bytes_max=2000, parts_max=3)
    for number in range(500):
        journal.write("nats", f"line {number}")
    journal.close()
    parts = list(tmp_path.iterdir())
    assert len(parts) <= 3
    assert sum(part.stat().st_size for part in parts) < 3 * 2200
    lines = [each["line"] for each in read(tmp_path, 10_000)]
    assert lines == [f"line {number}" for number in range(500 - len(lines), 500)]


def test_a_torn_line_is_skipped(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.write("nats", "whole")
    journal.close()
    with (tmp_path / FILE).open("a") as file:
        file.write('{"time": "2026')
    assert [each["line"] for each in read(tmp_path, 10)] == ["whole"]


async def test_a_slow_listener_loses_the_oldest_and_stops_nobody() -> None:
    feed = Feed[int]()
    with feed.listen() as slow:
        for number in range(WAITING_MAX + 5):
            feed.send(number)
        assert slow.qsize() == WAITING_MAX
        assert slow.get_nowait() == 5


def test_a_service_s_record_is_shown_in_words() -> None:
    line = '{"event": "round.opened", "level": "info", "session": "s1", "timestamp": "x"}'
    shown = views.entry({"time": "2026-01-02T03:04:05.678+00:00", "process": "api", "line": line})
    assert shown.plain == "03:04:05.678 api           round.opened session=s1"


def test_durations_have_two_units_at_most() -> None:
    assert [views.duration(s) for s in (0.9, 59, 61, 3600, 7385)] == [
        "0s",
        "59s",
        "1m01s",
        "1h00m",
        "2h03m",
    ]
