"""The task log: whole lines, bounded files, the day's count; a guard declines what it cannot write down."""

from datetime import date, datetime
from pathlib import Path

import pytest
from fedbus.consent import Allowed, Denied, PolicyFile, Request
from fedbus.consent.guard import Guard
from fedbus.consent.tasklog import NAME, SENT, TaskLog, read_lines

AT = datetime.fromisoformat("2026-11-24T12:00:00+00:00")
TODAY = date(2026, 11, 24)
ASKED = Request(kind="train", project="demo", session="s-1", round=3, attempt=1, cohort=5)


def test_lines_are_kept_within_the_limits(tmp_path: Path) -> None:
    log = TaskLog(tmp_path / "site" / NAME, 1000, 3)
    for number in range(100):
        log.write("asked", AT, {"number": number, "empty": None})
    files = sorted(one.name for one in (tmp_path / "site").iterdir())
    assert files == [NAME, f"{NAME}.1", f"{NAME}.2"]
    assert all(one.stat().st_size <= 1000 for one in (tmp_path / "site").iterdir())
    numbers = [line["number"] for line in read_lines(tmp_path / "site" / NAME)]
    assert numbers == list(range(100 - len(numbers), 100))
    assert len(numbers) > 20
    assert "empty" not in next(read_lines(tmp_path / "site" / NAME))
    assert (tmp_path / "site" / NAME).stat().st_mode & 0o777 == 0o600


def test_one_file_is_begun_anew(tmp_path: Path) -> None:
    log = TaskLog(tmp_path / NAME, 100, 1)
    for number in range(10):
        log.write("asked", AT, {"number": number})
    assert [line["number"] for line in read_lines(tmp_path / NAME)] == [9]


def test_a_torn_line_hides_no_other(tmp_path: Path) -> None:
    path = tmp_path / NAME
    path.write_text('{"at": "x", "wh')
    TaskLog(path, 1000, 2).write("asked", AT, {})
    path.write_text(path.read_text().replace("wh{", "wh\n{"))
    assert len([*read_lines(path)]) == 1
    assert [*read_lines(tmp_path / "none")] == []


def test_todays_bytes_survive_a_restart_and_end_with_the_day(tmp_path: Path) -> None:
    log = TaskLog(tmp_path / NAME, 1000, 2)
    log.count(TODAY, 5)
    log.count(TODAY, 6)
    again = TaskLog(tmp_path / NAME, 1000, 2)
    assert again.sent(TODAY) == 11
    assert again.sent(date(2026, 11, 25)) == 0
    again.count(date(2026, 11, 25), 1)
    assert again.sent(date(2026, 11, 25)) == 1
    (tmp_path / SENT).write_text("{}")
    with pytest.raises(OSError, match="remove it"):
        TaskLog(tmp_path / NAME, 1000, 2)


def test_without_a_folder_only_the_count_is_kept() -> None:
    log = TaskLog(None, 1000, 2)
    log.write("asked", AT, {})
    log.count(TODAY, 5)
    assert log.sent(TODAY) == 5


def test_a_guard_writes_down_what_it_says_and_what_leaves(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('[outgoing]\nmetrics = ["loss"]\nmib_per_day = 1')
    policy.chmod(0o600)
    guard = Guard(PolicyFile(policy), TaskLog(tmp_path / NAME, 10_000, 2))
    assert isinstance(guard.judge(ASKED), Allowed)
    assert guard.metrics({"loss": 1.0, "name": 2.0}) == {"loss": 1.0}
    assert guard.may_send(ASKED, 1024 * 1024) is None
    assert guard.leaving(ASKED, digest="ab", size=1024 * 1024, keys=["loss"], records=7)
    refused = guard.may_send(ASKED, 1)
    assert refused is not None
    assert refused.rule == "outgoing.mib_per_day"
    guard.ended(ASKED, "done", 1.25)
    policy.write_text("[tasks]\ntrain = false")
    assert guard.judge(ASKED) == Denied("tasks.train", "this kind of task is not done here")
    asked, leaves, ended, denied = read_lines(tmp_path / NAME)
    place = {"task": "train", "project": "demo", "session": "s-1", "round": 3, "attempt": 1}
    assert asked.items() >= (place | {"what": "asked", "cohort": 5, "verdict": "allowed"}).items()
    assert leaves.items() >= (place | {"digest": "ab", "bytes": 1024 * 1024}).items()
    assert (leaves["keys"], leaves["records"]) == (["loss"], 7)
    assert (ended["outcome"], ended["seconds"]) == ("done", 1.25)
    assert (denied["verdict"], denied["rule"]) == ("denied", "tasks.train")


def test_what_cannot_be_written_down_is_not_done(tmp_path: Path) -> None:
    guard = Guard(None, TaskLog(tmp_path / NAME, 10_000, 2))
    (tmp_path / NAME).mkdir()
    denied = guard.judge(ASKED)
    assert isinstance(denied, Denied)
    assert denied.rule == "log.unwritable"
    assert not guard.leaving(ASKED, digest="ab", size=1, keys=[], records=1)
    guard.ended(ASKED, "done", 1.0)
