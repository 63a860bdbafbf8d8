"""Client processes are killed in mid-round: the others reach the target, and who comes back loses nothing."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fedbus_local.stack import LocalStack
from fedbus_schemas.events import RoundCompleted

from tests.stacks import WAIT_S, Federation, federation
from tests.trainers import TINY

ROOT = Path(__file__).parents[2]
HELD = 2
"""The round in which the process is killed."""


@asynccontextmanager
async def process(fed: Federation, state: Path, hold_round: int) -> AsyncIterator[Process]:
    """Run the federation's last client as a process, until it is online; it is killed at the end."""
    credentials = await asyncio.to_thread(
        fed.stack.write_credentials, fed.sites[-1].credentials, state / "credentials.json"
    )
    command = [
        sys.executable,
        "-m",
        "tests.chaos.site",
        str(credentials),
        str(state),
        str(hold_round),
    ]
    running = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=PIPE, stdout=PIPE)
    try:
        await fed.online(len(fed.sites))
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.wait()


async def says(running: Process, line: str) -> None:
    """Wait until the process says this line."""
    assert running.stdout is not None
    async with asyncio.timeout(WAIT_S):
        while said := await running.stdout.readline():
            if said.decode().strip() == line:
                return
    raise AssertionError(f"the process ended before it said {line!r}")


async def kill(running: Process) -> bytes:
    """SIGKILL the process and give what it said since."""
    running.kill()
    assert running.stdout is not None
    rest = await running.stdout.read()
    await running.wait()
    return rest


async def counted(fed: Federation, session: str) -> list[int]:
    """Give how many clients each round counts, of a session that is sound."""
    events = await fed.assert_sound(session)
    return [len(event.counted) for event in events if isinstance(event, RoundCompleted)]


async def test_a_killed_client_is_not_waited_for(stack: LocalStack, tmp_path: Path) -> None:
    async with federation(stack, clients=4, online=False) as fed:
        for site in fed.sites[:-1]:
            site.come()
        async with process(fed, tmp_path, HELD) as running:
            fed.gate.close(fed.names[:-1], HELD)
            session = await fed.start(TINY, rounds=3, minimum=4, target=4, invited=4)
            await says(running, f"training {HELD}")
            await kill(running)
            assert (await fed.show(session))["rounds_completed"] == HELD - 1
            # It comes back, trains again from the start, and counts once.
            async with process(fed, tmp_path, 0) as again:
                await says(again, f"training {HELD}")
                fed.gate.open()
                await fed.ended(session)
        assert await counted(fed, session) == [4, 4, 4]


async def test_the_others_reach_the_target_without_a_killed_client(
    stack: LocalStack, tmp_path: Path
) -> None:
    async with federation(stack, clients=4, online=False) as fed:
        for site in fed.sites[:-1]:
            site.come()
        async with process(fed, tmp_path, HELD) as running:
            fed.gate.close(fed.names[:-1], HELD)
            session = await fed.start(TINY, rounds=3, minimum=3, target=3, invited=4)
            story = fed.stories[session]
            await says(running, f"training {HELD}")
            await kill(running)
            fed.gate.open()
            fed.gate.close(fed.names[:-1], HELD + 1)
            await story.until(lambda: story.of_round("round.completed.v1", HELD), "it completes")
            assert len(story.stored(HELD)) == 3
        async with process(
            fed, tmp_path, 0
        ) as again:  # it comes back into the round that is open now
            await says(again, f"training {HELD + 1}")
            fed.gate.open()
            await fed.ended(session)
        _, in_held, _ = await counted(fed, session)
        assert in_held == 3


async def test_a_client_that_died_after_training_sends_what_it_kept(
    stack: LocalStack, tmp_path: Path
) -> None:
    async with federation(stack, clients=3, online=False) as fed:
        for site in fed.sites[:-1]:
            site.come()
        async with process(fed, tmp_path, 0) as running:
            fed.gate.close(fed.names[:-1], HELD)
            session = await fed.start(TINY, rounds=3)
            story = fed.stories[session]
            await says(running, f"training {HELD}")
            await story.until(lambda: story.stored(HELD), "its update is stored")
            await kill(running)
        kept = list(tmp_path.rglob("*"))
        assert any(session in str(each) or each.suffix for each in kept), kept
        async with process(fed, tmp_path, 0) as again:
            fed.gate.open()
            await fed.ended(session)
            said = await kill(again)
        # It did not train that round a second time, but the next one.
        assert [int(line.split()[1]) for line in said.splitlines()] == [HELD + 1]
        assert await counted(fed, session) == [3, 3, 3]
