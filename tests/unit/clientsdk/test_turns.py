"""Turns at computing: one at a time over processes, freed by death, given up when the task is withdrawn."""

import asyncio
import itertools
import os
import signal
import sys
from pathlib import Path

import pytest
from fedbus._jobs import Withdrawal
from fedbus._turns import ROOM, Turns, folder_of
from fedbus.errors import BadOption

HOLDER = """
import asyncio, sys
from pathlib import Path
from fedbus._jobs import Withdrawal
from fedbus._turns import Turns

async def main():
    async with Turns(Path(sys.argv[1]), "holder").turn(Withdrawal()) as ours:
        print("in" if ours else "out", flush=True)
        await asyncio.to_thread(sys.stdin.readline)

asyncio.run(main())
"""


async def holder(folder: Path) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        HOLDER,
        str(folder),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert (await process.stdout.readline()).strip() == b"in"
    return process


async def test_one_at_a_time_and_nobody_twice_before_another(tmp_path: Path) -> None:
    inside, order = 0, []

    async def client(name: str) -> None:
        nonlocal inside
        turns = Turns(tmp_path, name)
        for _ in range(3):
            async with turns.turn(Withdrawal()) as ours:
                assert ours
                inside += 1
                assert inside == 1
                order.append(name)
                await asyncio.sleep(0.02)
                inside -= 1

    async with asyncio.TaskGroup() as group:
        for name in "abc":
            group.create_task(client(name))
    assert sorted(order) == sorted("abc" * 3)
    assert all(one != two for one, two in itertools.pairwise(order[:7]))


async def test_a_dead_holder_frees_the_lock(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "fedbus")
    process = await holder(tmp_path)
    waiting = asyncio.Event()

    async def wait() -> None:
        async with Turns(tmp_path, "next").turn(Withdrawal()) as ours:
            assert ours
            waiting.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(wait())
        while "next: waits for its turn to compute, after holder (process" not in caplog.text:
            await asyncio.sleep(0.01)
        assert not waiting.is_set()
        os.kill(process.pid, signal.SIGKILL)
    await process.wait()
    assert waiting.is_set()


async def test_a_withdrawn_task_waits_no_longer_and_blocks_nobody(tmp_path: Path) -> None:
    process = await holder(tmp_path)
    withdrawal = Withdrawal()
    turns = Turns(tmp_path, "withdrawn")

    async def wait() -> bool:
        async with turns.turn(withdrawal) as ours:
            return ours

    async with asyncio.TaskGroup() as group:
        waited = group.create_task(wait())
        await asyncio.sleep(0.1)
        withdrawal.say()
    assert waited.result() is False
    assert process.stdin is not None
    process.stdin.write(b"\n")
    await process.wait()
    async with asyncio.timeout(10), turns.turn(Withdrawal()) as ours:
        assert ours, "the thread that was left waiting let the room go"


async def test_off_waits_for_nobody() -> None:
    async with Turns(None, "one").turn(Withdrawal()) as one, Turns(None, "two").turn(Withdrawal()):
        assert one


def test_what_the_option_means(tmp_path: Path) -> None:
    assert folder_of("off") is None
    assert folder_of("host") == folder_of("host") != None  # noqa: E711
    assert folder_of(tmp_path) == tmp_path
    (tmp_path / ROOM).symlink_to("/dev/null")
    with pytest.raises(BadOption, match="compute_lock"):
        Turns(tmp_path, "one")
