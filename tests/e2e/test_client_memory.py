"""What a client takes: less than 60 MB beside three models, whatever the number of rounds."""

import asyncio
import re
import sys
from pathlib import Path

import numpy as np
from fedbus_local.stack import LocalStack

from tests.stacks import federation

ROOT = Path(__file__).parents[2]
MB = 1_000_000
MODEL_BYTES = 40 * MB
TENSORS = 8
REST_MAX = 60 * MB
IDLE_MAX = 64 * MB
"""A guard of our own: 61 MB today, 2 of them for the outbox (SQLite and its messages)."""


def peak_bytes(pid: int) -> int:
    """Give the most memory that a process ever held (VmHWM)."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


async def test_a_client_takes_less_than_60_mb_and_three_models(
    stack: LocalStack, tmp_path: Path
) -> None:
    shape = (MODEL_BYTES // 4 // TENSORS,)
    model = {f"w{number}": np.zeros(shape, np.float32) for number in range(TENSORS)}
    async with federation(stack, clients=1, online=False) as fed:
        credentials = await asyncio.to_thread(
            stack.write_credentials, fed.sites[0].credentials, tmp_path / "credentials.json"
        )
        folders = (str(tmp_path / "state"), str(tmp_path / "cache"))
        command = [sys.executable, "-m", "tests.e2e.memory_site", str(credentials), *folders]
        running = await asyncio.create_subprocess_exec(*command, cwd=ROOT)
        try:
            await fed.online(1)
            idle = peak_bytes(running.pid)
            session = await fed.start(model, rounds=4)
            await fed.ended(session)
            peak = peak_bytes(running.pid)
        finally:
            running.terminate()
            await running.wait()
    rest = peak - 3 * MODEL_BYTES
    print(f"client: {idle / MB:.1f} MB idle, at most {peak / MB:.1f} MB with models of 40 MB")
    assert idle < IDLE_MAX
    assert rest < REST_MAX
