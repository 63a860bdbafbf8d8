"""A client at the end of a link that is cut every 5 MB, killed in mid-upload: no byte is sent for nothing."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from fedbus_local.stack import LocalStack
from fedbus_schemas.events import RoundCompleted

from tests.e2e.stores import store_of
from tests.fault_proxy import Link, fault_proxy
from tests.stacks import Federation, eventually, federation

ROOT = Path(__file__).parents[2]
MB = 1_000_000
CUT_EVERY_BYTES = 5 * MB
KILL_AT = 0.6
WASTE_MAX = 1.1
"""Bytes on the link over bytes of the update."""


@asynccontextmanager
async def process(fed: Federation, state: Path, link: Link) -> AsyncIterator[Process]:
    """Run the federation's only client as a process behind the link; it is killed at the end."""
    credentials = await asyncio.to_thread(
        fed.stack.write_credentials, fed.sites[0].credentials, state / "credentials.json"
    )
    ports = (str(fed.stack.plan.ports["s3"]), str(link.port))
    command = [sys.executable, "-m", "tests.chaos.edge_site", str(credentials), str(state), *ports]
    running = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=PIPE)
    try:
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.wait()


async def said(running: Process) -> list[str]:
    """Kill the process and give what it said."""
    running.kill()
    assert running.stdout is not None
    lines = (await running.stdout.read()).decode().splitlines()
    await running.wait()
    return lines


async def test_an_upload_that_comes_too_late_leaves_nothing(
    stack: LocalStack, tmp_path: Path
) -> None:
    model = {"w": np.arange(5 * MB, dtype=np.float32), "b": np.zeros(4, np.float32)}
    async with (
        federation(stack, clients=2, online=False) as fed,
        fault_proxy(stack.plan.ports["s3"]) as link,
        store_of(stack) as store,
    ):
        fed.sites[1].come()
        async with process(fed, tmp_path, link):
            await fed.online(2)
            fed.gate.close(fed.names[1:], 1)
            link.bytes_per_s = 10 * MB
            session = await fed.start(model, rounds=1, invited=2, target=1, minimum=1)

            async def uploaders() -> set[str]:
                return {key.split("/")[2] for key in await store.list(f"{fed.project}/pieces/")}

            async def begun() -> bool:
                link.is_stalled = link.sent > 2 * MB
                return link.is_stalled and len(await uploaders()) > 0

            async def gone() -> bool:
                return await uploaders() == counted

            await eventually(begun, "the upload has begun")
            fed.gate.open()
            await fed.ended(session)
            counted = set(fed.stories[session].stored(1))
            assert len(counted) == 1
            await eventually(gone, "only the pieces of the update that was stored are there")


@pytest.mark.parametrize("size", [30 * MB, pytest.param(200 * MB, marks=pytest.mark.long)])
@pytest.mark.timeout(600)
async def test_an_update_arrives_over_a_link_that_is_cut_from_a_client_that_is_killed(
    stack: LocalStack, tmp_path: Path, size: int
) -> None:
    model = {"w": np.arange(size // 4, dtype=np.float32)}
    async with (
        federation(stack, clients=1, online=False) as fed,
        fault_proxy(stack.plan.ports["s3"]) as link,
    ):
        link.cut_every_bytes = CUT_EVERY_BYTES
        async with process(fed, tmp_path, link) as running:
            await fed.online(1)
            session = await fed.start(model, rounds=1, round_timeout_s=500)

            async def is_far() -> bool:
                return link.sent >= KILL_AT * size

            await eventually(is_far, "60 % are sent", within_s=300)
            assert not fed.stories[session].stored(1)
            assert await said(running) == ["training 1"]
        async with process(fed, tmp_path, link) as again:
            story = fed.stories[session]
            await story.until(lambda: story.end, "the round ends", within_s=300)
            assert await said(again) == []  # it sent what it kept
        print(
            f"update {size / MB:g} MB: {link.sent / size:.4f} of it sent, "
            f"model: {link.received / size:.4f} of it received, {link.cuts} cuts"
        )
        assert link.cuts >= 2 * size // CUT_EVERY_BYTES - 2
        assert link.received <= WASTE_MAX * size
        assert size <= link.sent <= WASTE_MAX * size
        events = await fed.assert_sound(session)
        assert [len(one.counted) for one in events if isinstance(one, RoundCompleted)] == [1]
