"""Scenes about messages that die: poison, used-up deliveries, and the operator who sends a letter out again."""

import asyncio
from collections.abc import Awaitable, Callable

from fedbus_core.rounds.decide import Facts, decide
from fedbus_core.rounds.log import fold, seal
from fedbus_core.rounds.state import Session
from fedbus_runtime.folded_log import FoldedLog
from fedbus_runtime.nats_bus import NatsBus
from fedbus_runtime.system_clock import SystemClock
from fedbus_schemas import subjects
from fedbus_schemas.sessions import PauseSession
from fedbus_schemas.streams import PERFORMERS, TALLIES, Consumer
from fedbus_schemas.work import FoldItem

from tests.chaos.crash_scenes import Stage, stored, unknown
from tests.e2e.stores import bus_of
from tests.stacks import Federation, eventually

LETTERS = "/v1/dead-letters"
SOMEBODY = "c" + "a" * 16
OVER = 1
"""A round that is over: work for it changes nothing."""


async def retry_work(stage: Stage) -> None:
    """Order a dead work item to be delivered again."""
    letter = await _dead_work(stage)
    await stage.arm()
    await order_again(stage, letter)
    await stage.doomed()
    await letters_are(stage.fed, 0)


async def drop_work(stage: Stage) -> None:
    """Order a dead work item to be dropped."""
    letter = await _dead_work(stage)
    await stage.arm()
    await stage.fed.ask("DELETE", f"{LETTERS}/{letter}")
    await stage.doomed()
    await letters_are(stage.fed, 0)


async def retry_update(stage: Stage) -> None:
    """Order a stored update, whose delivery has died, to be counted again."""
    subject, sequence = stored(stage)
    letter = await _write_letter(stage, "UPDATES", subject, b"", sequence)
    await stage.arm()
    await order_again(stage, letter)
    await stage.doomed()
    await letters_are(stage.fed, 0)


async def retry_without_place(stage: Stage) -> None:
    """Order a letter out again that does not say where it lay: a bug, tried again and again.

    In a project of its own, where its order dies in peace.
    """
    project = f"{stage.fed.project}-poison"
    subject = subjects.update(project, "none", OVER, SOMEBODY, 1)
    async with bus_of(stage.fed.stack, "combiner") as bus:
        headers = {"Dead-Code": "deliveries_used_up"}
        letter = await bus.streams.append(subjects.dead("UPDATES", subject), b"", headers=headers)
    await stage.arm()
    async with asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(
            stage.fed.http.post(f"{LETTERS}/{letter}/retry", params={"project": project})
        )
        await stage.doomed()
        asking.cancel()


async def poison_input(stage: Stage) -> None:
    """Send an input that nobody can read."""
    subject = subjects.result(stage.fed.project, stage.session)
    await poison(stage, subject, b'{"kind":"finished"}')


async def poison_work(stage: Stage) -> None:
    """Send a work item that nobody can read."""
    subject = subjects.work(stage.fed.project, stage.session, "finish")
    await poison(stage, subject, b"\xff no json")


async def poison_update(stage: Stage) -> None:
    """Store, in a project of its own, an update whose subject names no round: a bug in the handler."""
    await stage.arm()
    async with bus_of(stage.fed.stack, "combiner") as bus:
        await bus.streams.append(f"fl.{stage.fed.project}-poison.upd.{stage.session}.x.c1.1", b"{}")
    await stage.doomed()


async def use_up_update(stage: Stage) -> None:
    """Store an update whose every holder dies, until it is taken for poison."""
    subject = subjects.update(stage.fed.project, unknown(stage), OVER, SOMEBODY, 1)

    async def store(bus: NatsBus) -> str:
        await bus.streams.append(subject, b"{}")
        return subject

    await use_up(stage, TALLIES, store)
    letter = await only_letter(stage.fed)
    await stage.fed.ask("DELETE", f"{LETTERS}/{letter}")


async def use_up_entry(stage: Stage) -> None:
    """Decide to pause the session; whoever performs it dies, until an operator has it performed."""

    async def pause(bus: NatsBus) -> str:
        project, session = stage.fed.project, stage.session
        log = FoldedLog[Session](bus.streams, fold)
        state = await log.newest(project, session)
        assert state is not None
        now = SystemClock().now()
        events = decide(state, PauseSession(), Facts(project, session, "test", now)).events
        data = seal(state, project, session, events, "test", now)
        await log.append(project, session, data, state.sequence)
        return subjects.event(project, session)

    await use_up(stage, PERFORMERS, pause)
    letter = await only_letter(stage.fed)
    await order_again(stage, letter)
    await letters_are(stage.fed, 0)
    await stage.fed.order(stage.session, "resume")


async def use_up(
    stage: Stage, consumer: Consumer, store: Callable[[NatsBus], Awaitable[str]]
) -> None:
    """While the process is down, store a message and take all its deliveries; then start the process."""
    stack, role = stage.fed.stack, stage.process.partition("-")[0]
    await asyncio.to_thread(stack.kill, stage.process, restart=False)
    await asyncio.to_thread(stack.wait_down, stage.process)
    async with bus_of(stack, role) as bus:
        subject = await store(bus)
        count = 0
        while count < consumer.deliveries_max:
            for delivery in await bus.deliveries.fetch(consumer, 1):
                if delivery.message.subject == subject:
                    count = delivery.count
                await delivery.retry(0.0)
    await stage.arm()
    await stage.doomed()


async def poison(stage: Stage, subject: str, data: bytes) -> None:
    await stage.arm()
    async with bus_of(stage.fed.stack, "controller") as bus:
        await bus.streams.append(subject, data)
    await stage.doomed()
    letter = await only_letter(stage.fed)
    await stage.fed.ask("DELETE", f"{LETTERS}/{letter}")


async def _dead_work(stage: Stage) -> int:
    project, session = stage.fed.project, stage.session
    item = FoldItem(
        project=project, session=session, round=OVER, attempt=1, clients=(SOMEBODY, SOMEBODY)
    )
    subject = subjects.work(project, session, "fold")
    return await _write_letter(stage, "WORK", subject, item.to_bytes(), 1)


async def _write_letter(stage: Stage, stream: str, subject: str, data: bytes, sequence: int) -> int:
    headers = {"Dead-Code": "deliveries_used_up", "Dead-Sequence": str(sequence)}
    async with bus_of(stage.fed.stack, "combiner") as bus:
        return await bus.streams.append(subjects.dead(stream, subject), data, headers=headers)


async def order_again(stage: Stage, letter: int) -> None:
    """Order a letter out, until the api says that it is done; it says "retry later" while nobody does it."""
    await stage.fed.ask("POST", f"{LETTERS}/{letter}/retry")


async def only_letter(fed: Federation) -> int:
    """Give the one letter there is, as soon as there is one."""
    await letters_are(fed, 1)
    [letter] = (await fed.ask("GET", LETTERS))["items"]
    number: int = letter["sequence"]
    return number


async def letters_are(fed: Federation, count: int) -> None:
    async def look() -> bool:
        return len((await fed.ask("GET", LETTERS))["items"]) == count

    await eventually(look, f"{count} dead letters")
