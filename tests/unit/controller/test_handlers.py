"""Inputs and notices against the memory twins: what is appended, and what the same words lead to later."""

import asyncio
from datetime import UTC, datetime

import pytest
from fedbus_controller.candidates import Candidates
from fedbus_controller.handlers import Handlers
from fedbus_controller.open_sessions import OpenSessions
from fedbus_controller.small_models import SmallModels
from fedbus_core.rounds.log import fold, read_entry
from fedbus_core.rounds.state import Session
from fedbus_runtime.attributes import AttributeTable
from fedbus_runtime.errors import Reject
from fedbus_runtime.folded_log import FoldedLog
from fedbus_runtime.memory import MemoryWorld
from fedbus_runtime.memory_clock import ManualClock
from fedbus_runtime.ports import Request, StoredMessage
from fedbus_runtime.registry import ClientRegistry
from fedbus_schemas import subjects
from fedbus_schemas.inputs import ClientsChanged, Input, TargetReached
from fedbus_schemas.registry import ClientRecord
from fedbus_schemas.sessions import ExtendSession, SessionSettings, StartSession
from fedbus_schemas.streams import EVENTS, STREAMS

from tests.round_worlds import client, model, participant, result

PROJECT, SESSION = "default", "s-handlers"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Controller:
    """A controller's handlers over the memory twins, and what the other services do to its world."""

    def __init__(self) -> None:
        self.clock = ManualClock(NOW)
        self.ports = MemoryWorld(self.clock).connections()
        self.streams = self.ports.streams
        log = FoldedLog[Session](self.streams, fold)
        self.log = log
        self.sessions = OpenSessions(self.streams, self.ports.wire, log)
        candidates = Candidates(
            self.ports.presence, ClientRegistry(self.streams), AttributeTable(self.streams)
        )
        self.small = SmallModels(self.ports.blobs)
        self.handlers = Handlers(
            log, self.streams, candidates, self.sessions, self.small, self.clock, "c-1"
        )

    async def begin(self, online: str, **settings: object) -> None:
        await self.ports.deliveries.prepare(STREAMS, [])
        await self.come(online)
        wanted = SessionSettings.model_validate(settings)
        await self.input(StartSession(session=SESSION, settings=wanted, model=model(0)))

    async def come(self, letters: str) -> None:
        for letter in letters:
            device = "U" + letter.upper() * 55
            record = ClientRecord(
                device=device,
                client=client(letter),
                name=letter,
                key=participant(letter).key,
                since=NOW,
            )
            await self.streams.append(subjects.client_record(PROJECT, device), record.to_bytes())
        seen = [client(letter) for letter in letters]
        await self.ports.presence.seen(PROJECT, seen, self.clock.now())

    async def store(self, letters: str) -> None:
        for letter in letters:
            await self.streams.append(
                subjects.update(PROJECT, SESSION, 1, client(letter), 1), b"{}"
            )

    async def input(self, given: Input) -> None:
        subject = subjects.command(PROJECT, SESSION)
        headers = {"Nats-Msg-Id": f"order-{given.kind}"}
        message = StoredMessage(subject, 1, given.to_bytes(), self.clock.now(), headers)
        await self.handlers.on_input(message)

    async def notice(self, given: Input, session: str = SESSION) -> None:
        request = Request(subjects.notice(PROJECT, session), given.to_bytes(), {}, None)
        assert await self.handlers.on_notice(request) is not None

    async def finish(self, good: str, bad: str) -> None:
        state = await self.log.newest(PROJECT, SESSION)
        assert state is not None
        assert state.round is not None
        assert state.round.closing is not None
        found = result(state.round.closing, good, bad)
        subject = subjects.result(PROJECT, SESSION)
        data, headers = found.to_bytes(), {"Nats-Msg-Id": f"result-{found.step}"}
        await self.handlers.on_input(StoredMessage(subject, 9, data, self.clock.now(), headers))

    async def types(self) -> list[str]:
        entries = await self.streams.read(EVENTS, subjects.event(PROJECT, SESSION))
        return [event.TYPE for entry in entries for event in read_entry(entry.data)[1]]


async def test_the_same_target_notice_closes_a_reopened_round_again() -> None:
    """A notice has no id: after a reopening, its very same words must count anew."""
    controller = Controller()
    await controller.begin("abcd", target=3, minimum=2)
    notice = TargetReached(round=1, attempt=1)
    await controller.store("abc")
    await controller.notice(notice)
    await controller.notice(notice)
    await controller.finish("bc", "a")
    await controller.notice(notice)
    await controller.store("d")
    await controller.notice(notice)
    assert (await controller.types())[2:] == [
        "round.closing.v1",
        "round.reopened.v1",
        "round.closing.v1",
    ]


async def test_updates_that_came_while_closing_close_again_without_a_notice() -> None:
    controller = Controller()
    await controller.begin("abcd", target=3, minimum=2)
    await controller.store("abc")
    await controller.notice(TargetReached(round=1, attempt=1))
    await controller.store("d")
    await controller.finish("bc", "a")
    await controller.finish("bcd", "a")
    assert (await controller.types())[2:] == [
        "round.closing.v1",
        "round.reopened.v1",
        "round.closing.v1",
        "round.completed.v1",
        "round.opened.v1",
    ]


async def test_clients_that_come_wake_a_waiting_session_each_time() -> None:
    controller = Controller()
    await controller.begin("a", minimum=2, attempts_max=1, rounds=2)
    await controller.sessions.read()
    await controller.notice(ClientsChanged(), "any")
    await controller.come("b")
    await controller.notice(ClientsChanged(), "any")
    await controller.store("ab")
    await controller.notice(TargetReached(round=1, attempt=1))
    controller.clock.advance(60)  # nobody was heard of for longer than a lease
    await controller.ports.presence.seen(PROJECT, [client("a")], controller.clock.now())
    await controller.finish("ab", "")
    await controller.sessions.read()
    await controller.come("b")
    await controller.notice(ClientsChanged(), "any")
    assert await controller.types() == [
        "session.started.v1",
        "session.waiting.v1",
        "round.opened.v1",
        "round.closing.v1",
        "round.completed.v1",
        "session.waiting.v1",
        "round.opened.v1",
    ]


async def test_a_stored_input_that_comes_twice_is_decided_once() -> None:
    controller = Controller()
    await controller.begin("abc", rounds=1)
    for _ in range(2):
        await controller.input(ExtendSession(rounds=1))
    state = await controller.log.newest(PROJECT, SESSION)
    assert state is not None
    assert state.rounds_total == 2


async def test_an_unreadable_input_is_rejected() -> None:
    controller = Controller()
    subject = subjects.command(PROJECT, SESSION)
    with pytest.raises(Reject):
        await controller.handlers.on_input(StoredMessage(subject, 1, b"{", NOW, {}))


async def test_clients_that_came_while_nobody_knew_that_a_session_waits_are_found() -> None:
    """Their notice is in vain when it comes before the controllers have heard of the waiting."""
    controller = Controller()
    await controller.begin("", minimum=2)
    await controller.come("a")
    await controller.notice(ClientsChanged(), "any")
    await controller.come("b")
    await controller.notice(ClientsChanged(), "any")
    assert await controller.types() == ["session.started.v1", "session.waiting.v1"]
    await controller.sessions.read()
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(controller.sessions.follow(controller.handlers.on_waiting))
        while "round.opened.v1" not in await controller.types():
            await asyncio.sleep(0)
        following.cancel()


async def test_a_session_that_begins_to_wait_looks_for_clients_at_once() -> None:
    controller = Controller()
    looked: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    async def look(project: str, session: str) -> None:
        await looked.put((project, session))

    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(controller.sessions.follow(look))
        await asyncio.sleep(0)
        await controller.begin("a", minimum=2)
        assert await looked.get() == (PROJECT, SESSION)
        following.cancel()


async def test_a_waiting_session_is_looked_after_without_any_notice() -> None:
    """Clients that Redis had forgotten are back with a heartbeat, and nobody sends a notice of that."""
    controller = Controller()
    await controller.begin("a", minimum=2)
    await controller.sessions.read()
    async with asyncio.TaskGroup() as tasks:
        looking = tasks.create_task(
            controller.sessions.look_again(controller.clock, controller.handlers.on_waiting)
        )
        await asyncio.sleep(0)
        await controller.come("b")
        while "round.opened.v1" not in await controller.types():
            controller.clock.advance(1)
            await asyncio.sleep(0)
        looking.cancel()
