"""One supervised process: its lives, its back-off, its end."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest
from fedbus_local import child as child_module
from fedbus_local.child import BACKOFF_MAX_S, Child, backoff_s
from fedbus_local.feed import Feed
from fedbus_local.journal import LINE_BYTES_MAX, Journal, read
from fedbus_local.layout import Layout
from fedbus_local.programs import Program
from fedbus_local.reports import State

WAITS = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {WAITS}"


class Stage:
    """A child with what it needs, and a way to wait for its states."""

    def __init__(self, folder: Path, code: str) -> None:
        layout = Layout.at(folder)
        layout.make()
        self.journal = Journal(layout.logs)
        self.heard: list[str] = []
        self.states = Feed[State]()
        self.child = Child(
            Program(
                name="p",
                role="server",
                command=[sys.executable, "-c", code],
                folder=folder,
                port=1,
                probe=self.probe,
                stop_timeout_s=0.3 if code is STUBBORN else 5.0,
            ),
            layout,
            self.journal,
            changed=lambda: self.states.send(self.child.state),
            heard=lambda _name, line: self.heard.append(line),
        )
        self.healthy = True

    async def probe(self) -> str | None:
        return None if self.healthy and str(self.child.pid) in self.heard else "not yet"

    async def until(self, *states: State) -> None:
        async with asyncio.timeout(10):
            with self.states.listen() as changes:
                while self.child.state not in states:
                    await changes.get()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "BACKOFF_FIRST_S", 0.01)
    monkeypatch.setattr(child_module, "BACKOFF_MAX_S", 0.02)
    monkeypatch.setattr(child_module, "LOOK_STARTING_S", 0.01)


def test_the_back_off_grows_to_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    waits = [backoff_s(failures) for failures in range(9)]
    assert waits == sorted(waits)
    assert (waits[0], waits[1], waits[-1]) == (0.5, 0.5, BACKOFF_MAX_S)


async def test_a_killed_process_is_started_again(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "d", WAITS)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(stage.child.run())
        await stage.until(State.HEALTHY)
        first = stage.child.kill(signal.SIGKILL, restart=True)
        await stage.until(State.RESTARTING, State.STARTING)
        await stage.until(State.HEALTHY)
        assert stage.child.pid != first
        assert stage.child.restarts == 1
        assert (await stage.child.stop()).startswith("stopped in")
    stage.journal.close()
    assert len(read(tmp_path / "d" / "logs", 9, "p")) == 2


async def test_a_process_that_is_held_down_stays_down_until_restarted(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "d", WAITS)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(stage.child.run())
        await stage.until(State.HEALTHY)
        stage.child.kill(signal.SIGKILL, restart=False)
        await stage.until(State.STOPPED)
        assert stage.child.report().pid is None
        assert stage.child.report().reason == "was ended by SIGKILL"
        await stage.child.restart()
        await stage.until(State.HEALTHY)
        await stage.child.stop()
    stage.journal.close()


async def test_more_environment_is_for_one_life_only(tmp_path: Path) -> None:
    says = "import os; print(f'MORE={os.environ.get(\"MORE\")}', flush=True)"
    stage = Stage(tmp_path / "d", f"{says}; {WAITS}")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(stage.child.run())
        await stage.until(State.HEALTHY)
        await stage.child.restart({"MORE": "yes"})
        await stage.until(State.HEALTHY)
        stage.child.kill(signal.SIGKILL, restart=True)
        await stage.until(State.RESTARTING, State.STARTING)
        await stage.until(State.HEALTHY)
        await stage.child.stop()
    stage.journal.close()
    said = [line for line in stage.heard if line.startswith("MORE")]
    assert said == ["MORE=None", "MORE=yes", "MORE=None"]


async def test_one_that_never_gets_up_counts_as_failed(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "d", "raise SystemExit(78)")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(stage.child.run())
        await stage.until(State.FAILED)
        assert stage.child.report().reason == "ended with exit code 78"
        await stage.child.stop()
    stage.journal.close()


async def test_a_program_that_is_missing_is_no_crash(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "d", WAITS)
    stage.child.program = Program(
        name="p",
        role="server",
        command=["/nowhere/program"],
        folder=tmp_path,
        port=1,
        probe=stage.probe,
    )
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(stage.child.run())
        await stage.until(State.FAILED)
        assert "No such file" in (stage.child.report().reason or "")
        await stage.child.stop()
    stage.journal.close()


async def test_one_that_ignores_the_request_to_stop_is_killed(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "d", STUBBORN)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(stage.child.run())
        await stage.until(State.HEALTHY)
        assert (await stage.child.stop()).startswith("killed")
    stage.journal.close()


async def test_a_healthy_one_that_says_no_is_unhealthy_and_left_alone(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "d", WAITS)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(stage.child.run())
        await stage.until(State.HEALTHY)
        stage.healthy = False
        await stage.child.look()
        assert stage.child.report().state is State.UNHEALTHY
        assert stage.child.report().reason == "not yet"
        assert stage.child.restarts == 0
        await stage.child.stop()
    stage.journal.close()


async def test_a_line_without_end_is_cut(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "d", f"print('x' * 100_000, flush=True); {WAITS}")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(stage.child.run())
        await stage.until(State.HEALTHY)
        await stage.child.stop()
    stage.journal.close()
    assert max(map(len, stage.heard)) <= LINE_BYTES_MAX
