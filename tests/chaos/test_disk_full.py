"""The disk of each server runs full in mid-round: a loud stop, and with space again the round goes on.

Each server's directory is a disk of its own here, which takes root and the right to mount.
"""

import asyncio
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from fedbus_core.aggregation.tensorfile import write
from fedbus_local.stack import LocalStack

from tests.stacks import Federation, eventually, federation
from tests.trainers import LARGE

pytestmark = pytest.mark.long

DISK = "1g"
CLIENTS = 4
FULL_S = 8.0
"""How long the disk stays full after somebody complained."""


@contextmanager
def disk(place: Path) -> Iterator[None]:
    """Mount a small disk."""
    place.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=700", "tmpfs", str(place)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"nothing can be mounted here: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@contextmanager
def full(place: Path) -> Iterator[None]:
    """Take all the space there is."""
    ballast = place / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                space = os.statvfs(place)
                os.posix_fallocate(
                    file.fileno(), file.seek(0, os.SEEK_END), max(4096, space.f_bavail * 4096)
                )
        except OSError:
            pass
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass
    try:
        yield
    finally:
        ballast.unlink()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("server", ["nats", "redis", "s3"])
async def test_a_full_disk_stops_a_round_loudly_and_not_for_ever(
    server: str, tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a disk")
    place = tmp_path / "stack"
    with disk(place / server), LocalStack(place, controllers=2, combiners=2) as stack:
        async with federation(stack, CLIENTS, backoff_max_s=2.0) as fed:
            half = CLIENTS // 2
            fed.gate.close(fed.names[half:], 2)
            session = await fed.start(LARGE, rounds=4, round_timeout_s=200)
            story = fed.stories[session]
            await story.until(lambda: len(story.stored(2)) == half, "half of round 2 is stored")
            with full(place / server):
                begun_s = time.monotonic()
                fed.gate.open()

                async def complains() -> bool:
                    report = await asyncio.to_thread(stack.status)
                    return bool(report.warnings)

                await eventually(complains, "the stack says that a disk is full")
                loud_s = time.monotonic() - begun_s
                await assert_says_so(fed, server)
                await asyncio.sleep(FULL_S)
                assert not story.end, "without space nothing can be completed"
            freed_s = time.monotonic()
            await story.until(lambda: story.end, f"{session} ends", 120)
            back_s = time.monotonic() - freed_s
            await fed.ended(session)
            await fed.assert_sound(session)
            assert [one["counted"] for one in await fed.rounds(session)] == [CLIENTS] * 4
        entries = (place / "logs/fedbus.log").read_text().splitlines()
        log = [json.loads(entry)["line"] for entry in entries]
        notes = [line for line in log if line.startswith(("DISK", "restarting", "there is space"))]
        assert any(line.startswith("DISK") for line in notes)
        restarts = {one.name: one.restarts for one in stack.status().processes if one.restarts}
        print(f"\n{server}: loud after {loud_s:.1f} s, ended {back_s:.1f} s after there was space")
        print(f"{server}: {notes}, died: {restarts or 'nobody'}")


async def assert_says_so(fed: Federation, server: str) -> None:
    """Assert that the api refuses with a code what it cannot store now."""
    if server == "redis":
        return  # a cache: nothing that an operator asks for needs it
    for number in range(50):  # the last page of a file still takes a few
        model = write({"w": np.full(50_000 if server == "s3" else 8, number, np.float32)})
        answer = await fed.http.post("/v1/models", content=model)
        if not answer.is_success:
            break
    assert (answer.status_code, answer.json()["code"]) == (503, "retry_later"), answer.text
    print(f"\n{server}: {answer.json()['detail']}")
