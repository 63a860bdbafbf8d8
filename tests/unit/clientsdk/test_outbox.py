"""The outbox: order, limits, what a kill leaves, one process at a time, a full or damaged disk."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from fedbus import BadOption, PriorityClass
from fedbus._outbox import Batch, Outbox, OutboxClosed
from fedbus.priorities import Priorities
from fedbus_schemas.records import BATCH_BYTES_MAX, BATCH_RECORDS_MAX

WRONG: Any = "newest"
CONTENT = b'"key":"x"}'


def numbers(batch: Batch | None) -> list[int]:
    assert batch is not None
    return [one["number"] for one in json.loads(batch.content)["records"]]


def drained(outbox: Outbox, most: int = BATCH_RECORDS_MAX) -> list[int]:
    found: list[int] = []
    while (batch := outbox.take(most)) is not None:
        found += numbers(batch)
        outbox.acknowledge(batch)
    return found


def test_classes_go_in_the_promised_order() -> None:
    now = [0.0]
    outbox = Outbox(clock=lambda: now[0])
    for name in ("telemetry", "inference", "telemetry"):  # 1 2 3: old when they are sent
        outbox.put(name, CONTENT)
    now[0] = 299.0
    for name in ("artifact", "telemetry", "alert", "inference", "telemetry", "alert", "default"):
        outbox.put(name, CONTENT)  # 4 to 10
    outbox.put("model_update", CONTENT)  # 11
    now[0] = 301.0
    assert drained(outbox) == [6, 9, 11, 8, 5, 7, 4, 10, 1, 2, 3]


def test_a_batch_is_bounded_in_records_and_bytes() -> None:
    outbox = Outbox()
    for _ in range(600):
        outbox.put("alert", CONTENT)
    sizes = []
    while (batch := outbox.take()) is not None:
        sizes.append(batch.count)
        outbox.acknowledge(batch)
    assert sizes == [256, 256, 88]
    for _ in range(8):
        outbox.put("alert", b'"x":"%b"}' % (b"x" * 60_000))
    counts = []
    while (batch := outbox.take()) is not None:
        counts.append(batch.count)
        assert len(batch.content) <= BATCH_BYTES_MAX
        outbox.acknowledge(batch)
    assert counts == [3, 3, 2]


def test_what_is_out_is_sent_again_as_it_was(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.db")
    outbox.put("telemetry", CONTENT)
    outbox.put("telemetry", CONTENT)
    first = outbox.take()
    outbox.put("alert", CONTENT)
    assert outbox.take() == first
    outbox.close()
    again = Outbox(tmp_path / "outbox.db")
    assert again.take() == first
    assert first is not None
    again.acknowledge(first)
    assert numbers(again.take()) == [3]


def test_of_too_many_the_oldest_of_the_lowest_class_goes() -> None:
    outbox = Outbox(records_max=4)
    for name in ("artifact", "backlog", "alert", "backlog"):
        outbox.put(name, CONTENT)
    outbox.put("alert", CONTENT)
    outbox.put("alert", CONTENT)
    outbox.put("alert", CONTENT)
    assert outbox.waiting().dropped == 3
    assert drained(outbox) == [3, 5, 6, 7]


def test_what_is_too_old_is_dropped_where_the_class_says_so() -> None:
    now = [0.0]
    outbox = Outbox(clock=lambda: now[0])
    outbox.change_classes(
        lambda classes: classes.add(PriorityClass(name="camera", priority=50, drop_after_s=60))
    )
    outbox.put("camera", CONTENT)
    now[0] = 30.0
    outbox.put("camera", CONTENT)
    now[0] = 61.0
    assert drained(outbox) == [2]
    assert outbox.waiting().dropped == 1


def test_records_of_a_class_taken_away_go_as_default() -> None:
    outbox = Outbox()
    outbox.change_classes(lambda classes: classes.add(PriorityClass(name="camera", priority=90)))
    outbox.put("backlog", CONTENT)
    outbox.put("camera", CONTENT)
    outbox.put("artifact", CONTENT)
    outbox.change_classes(lambda classes: classes.remove("camera"))
    with pytest.raises(BadOption, match="there is no priority class 'camera'; there are alert"):
        outbox.put("camera", CONTENT)
    assert drained(outbox) == [3, 2, 1]


KILLED = """
import sys
from pathlib import Path
from fedbus._outbox import Outbox

outbox = Outbox(Path(sys.argv[1]))
kept = 0
while True:
    outbox.put("alert", b'"key":"x"}')
    kept += 1
    print(kept, flush=True)
    if kept % 7 == 0:
        batch = outbox.take(3)
        outbox.acknowledge(batch)
        print(-batch.count, flush=True)
    if kept % 50 == 0:
        outbox.sync()
"""


@pytest.mark.parametrize("after", [1, 40, 333])
def test_a_kill_loses_nothing_that_was_put(tmp_path: Path, after: int) -> None:
    file = tmp_path / "outbox.db"
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(file)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        said: list[int] = []
        for line in process.stdout:
            said.append(int(line))
            if sum(one > 0 for one in said) >= after:
                break
        os.kill(process.pid, signal.SIGKILL)
        said += [int(line) for line in process.stdout if line.endswith("\n")]
    put = max(said)
    gone = -sum(one for one in said if one < 0)
    outbox = Outbox(file)
    left = drained(outbox)
    # The last put, and the last acknowledgement, may have been done and not been said.
    assert left in [
        list(range(first + 1, last + 1)) for first in (gone, gone + 3) for last in (put, put + 1)
    ]


def test_one_process_at_a_time(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.db")
    with pytest.raises(BadOption, match="another process works with it"):
        Outbox(tmp_path / "outbox.db", lock_wait_s=0.05)
    code = (
        "import sys; from pathlib import Path; from fedbus._outbox import Outbox\n"
        "Outbox(Path(sys.argv[1]), lock_wait_s=0.05)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "outbox.db")]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "another process works with it" in refused.stderr
    outbox.close()
    assert subprocess.run(command, check=False).returncode == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_is_refused_and_keeps_no_lock(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.db")
    child = os.fork()
    if child == 0:
        try:
            outbox.put("alert", CONTENT)
        except RuntimeError as error:
            os._exit(0 if "forked" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    outbox.put("alert", CONTENT)
    assert drained(outbox) == [1]


def test_a_damaged_file_is_put_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "outbox.db"
    file.write_bytes(b"this is no database at all, whatever its name says" * 100)
    outbox = Outbox(file)
    outbox.put("alert", CONTENT)
    assert drained(outbox) == [1]
    assert "cannot be read" in caplog.text
    assert (tmp_path / "outbox.damaged").exists()


def test_a_full_disk_costs_the_record_and_no_exception(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.db")
    outbox.put("alert", CONTENT)
    [(pages,)] = outbox._file.execute("PRAGMA page_count").fetchall()
    outbox._file.execute(f"PRAGMA max_page_count = {pages}")
    large = b'"x":"%b"}' % (b"x" * 50_000)
    assert not outbox.put("alert", large)
    assert not outbox.put("alert", large)
    waiting = outbox.waiting()
    assert (waiting.total, waiting.dropped) == (1, 2)
    outbox._file.execute("PRAGMA max_page_count = 100000")
    assert outbox.put("alert", large)
    assert len(drained(outbox)) == 2


def test_the_step_and_the_stream_outlive_the_process(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.db")
    outbox.put("alert", CONTENT, step=41)
    outbox.close()
    again = Outbox(tmp_path / "outbox.db")
    assert (again.step, again.stream) == (41, outbox.stream)


def test_many_threads_at_once(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.db")
    sent: list[int] = []
    over = threading.Event()

    def put() -> None:
        for _ in range(300):
            outbox.put("artifact", CONTENT)

    def send() -> None:
        while not over.is_set():
            sent.extend(drained(outbox, 16))
            outbox.sync()

    putting = [threading.Thread(target=put) for _ in range(4)]
    sending = threading.Thread(target=send)
    for thread in (*putting, sending):
        thread.start()
    for thread in putting:
        thread.join()
    over.set()
    sending.join()
    assert sorted(sent + drained(outbox)) == list(range(1, 1201))
    assert sent == sorted(sent)


def test_nobody_waits_for_the_disk(tmp_path: Path) -> None:
    """While `sync` is at work, records are put all the same."""
    outbox = Outbox(tmp_path / "outbox.db")
    for _ in range(5_000):
        outbox.put("artifact", CONTENT)
    syncing = threading.Thread(target=outbox.sync)
    syncing.start()
    slowest = 0.0
    for _ in range(500):
        started = time.perf_counter()
        assert outbox.put("artifact", CONTENT)
        slowest = max(slowest, time.perf_counter() - started)
    syncing.join()
    print(f"slowest put beside a sync: {1000 * slowest:.2f} ms")
    assert outbox.waiting().total == 5_500


def test_after_the_end_nothing_is_taken(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.db")
    outbox.close()
    outbox.close()
    with pytest.raises(OutboxClosed):
        outbox.put("alert", CONTENT)
    with pytest.raises(OutboxClosed):
        outbox.take()


def test_a_folder_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadOption, match="state_dir"):
        Outbox(tmp_path / "file" / "outbox.db")


def test_the_file_is_as_the_tables_say(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.db")
    outbox.put("alert", CONTENT)
    outbox.sync()
    outbox.close()
    with sqlite3.connect(tmp_path / "outbox.db") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda: PriorityClass(name="A", priority=1), "a priority class is named by"),
        (lambda: PriorityClass(name="a", priority=101), "from 0 to 100"),
        (lambda: PriorityClass(name="a", priority=1, order=WRONG), "fifo"),
        (
            lambda: PriorityClass(name="a", priority=1, demote_after_s=1, drop_after_s=1),
            "not both",
        ),
        (lambda: PriorityClass(name="a", priority=1, drop_after_s=0), "above 0"),
        (lambda: Priorities().remove("default"), "cannot be removed"),
        (lambda: Priorities().remove("x"), "there is no priority class 'x'"),
        (lambda: Priorities().remove("backlog"), "which there is not"),
        (lambda: Priorities().add(PriorityClass(name="alert", priority=1)), "already"),
        (lambda: Priorities().replace(PriorityClass(name="x", priority=1)), "there is no"),
        (
            lambda: Priorities().add(PriorityClass(name="x", priority=10, demote_after_s=1)),
            "lower priority",
        ),
    ],
)
def test_classes_that_cannot_be(change: object, why: str) -> None:
    assert callable(change)
    with pytest.raises(BadOption, match=why):
        change()
