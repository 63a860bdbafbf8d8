"""What is wrong with one session stays its own: a broken log or a lost model must not end the controller."""

import asyncio
from datetime import UTC, datetime

import pytest
from fedbus_controller import main
from fedbus_controller.open_sessions import OpenSessions
from fedbus_controller.perform import Performer
from fedbus_core.rounds.log import fold
from fedbus_core.rounds.state import Session
from fedbus_runtime.errors import BlobMissing
from fedbus_runtime.folded_log import FoldedLog
from fedbus_runtime.memory import MemoryWorld
from fedbus_runtime.memory_clock import ManualClock
from fedbus_schemas import subjects
from fedbus_schemas.envelope import GENESIS, CloudEvent, Entry
from fedbus_schemas.ids import ProjectId, SessionId
from fedbus_schemas.streams import STREAMS

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def of_a_newer_version(session: str) -> bytes:
    event = CloudEvent(
        id=f"{session}/1/1",
        source="/projects/p/controller",
        type="session.dreamt.v9",
        subject=session,
        time=NOW,
        data={},
    )
    entry = Entry(
        project="p", session=session, number=1, previous=GENESIS, cause="in.1", events=(event,)
    )
    return entry.to_bytes()


@pytest.mark.parametrize("data", [of_a_newer_version("s-1"), b"no entry"], ids=["newer", "broken"])
async def test_a_log_that_cannot_be_read_is_left_alone(data: bytes) -> None:
    ports = MemoryWorld(ManualClock(NOW)).connections()
    await ports.deliveries.prepare(STREAMS, [])
    sessions = OpenSessions(ports.streams, ports.wire, FoldedLog[Session](ports.streams, fold))

    async def look(_project: ProjectId, _session: SessionId) -> None:
        raise AssertionError("no session waits")

    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(sessions.follow(look))
        await asyncio.sleep(0)
        await ports.streams.append(subjects.event("p", "s-1"), data)
        for _ in range(20):
            await asyncio.sleep(0)
        assert not following.done()
        following.cancel()
    await sessions.read()
    assert sessions.open == set()


async def test_effects_of_the_others_are_repeated_when_one_has_lost_its_model() -> None:
    ports = MemoryWorld(ManualClock(NOW)).connections()
    sessions = OpenSessions(ports.streams, ports.wire, FoldedLog[Session](ports.streams, fold))
    sessions.open = {("p", "s-1"), ("p", "s-2")}
    repeated = []

    class Repeating(Performer):
        def __init__(self) -> None:
            self.unsure = set()

        async def repeat(self, project: ProjectId, session: SessionId) -> None:
            repeated.append(session)
            if session == "s-1":
                raise BlobMissing("the model")

    async with asyncio.TaskGroup() as tasks:
        repeating = tasks.create_task(main._repeat(ports.wire, sessions, Repeating()))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not repeating.done()
        repeating.cancel()
    assert repeated == ["s-1", "s-2"]
