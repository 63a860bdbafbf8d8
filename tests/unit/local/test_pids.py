"""Pid files: a stale one, and one whose pid somebody else got, name nobody."""

import json
import os
import subprocess
import sys
from pathlib import Path

from fedbus_local import daemon, pids
from fedbus_local.layout import Layout


def test_a_running_process_is_known_by_its_pid_and_start(tmp_path: Path) -> None:
    pids.write(tmp_path / "me.pid", os.getpid())
    assert pids.alive(tmp_path / "me.pid") == os.getpid()


def test_a_stale_pid_names_nobody(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        pids.write(tmp_path / "x.pid", process.pid)
        assert pids.alive(tmp_path / "x.pid") == process.pid
    assert pids.alive(tmp_path / "x.pid") is None


def test_a_reused_pid_names_nobody(tmp_path: Path) -> None:
    (tmp_path / "x.pid").write_text(json.dumps({"pid": os.getpid(), "started": "another boot/1"}))
    assert pids.alive(tmp_path / "x.pid") is None


def test_a_damaged_or_missing_file_names_nobody(tmp_path: Path) -> None:
    (tmp_path / "x.pid").write_text("{")
    (tmp_path / "y.pid").write_text("[]")
    for name in ("x", "y", "z"):
        assert pids.alive(tmp_path / f"{name}.pid") is None


def test_leftovers_are_ended_and_strangers_spared(tmp_path: Path) -> None:
    layout = Layout.at(tmp_path / "stack")
    layout.make()
    command = [sys.executable, "-c", "input()"]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, process_group=0) as left,
        subprocess.Popen(command, stdin=subprocess.PIPE, process_group=0) as stranger,
    ):
        pids.write(layout.pid_file("combiner-1"), left.pid)
        reused = {"pid": stranger.pid, "started": "another boot/1"}
        layout.pid_file("combiner-2").write_text(json.dumps(reused))
        assert list(daemon.end_leftovers(layout)) == [("combiner-1", left.pid)]
        assert left.wait(5) == -9
        assert stranger.poll() is None
    assert list(layout.run.glob("*.pid")) == []


def test_the_end_of_a_process_is_waited_for(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert not pids.ends(process.pid, 0.01)
        process.kill()
        assert pids.ends(process.pid, 5.0)
    assert pids.ends(process.pid, 0.0)
