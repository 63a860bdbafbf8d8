"""What is done in mid-round to bring a service to a crash point that a quiet session does not pass.

Each scene begins with two of three clients' updates stored and the third held in training. `arm` starts the
service again with its crash point; `doomed` waits until it has killed itself. Afterwards everybody is free.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import TypeAlias

from fedbus_schemas import keys, subjects
from fedbus_schemas.work import RecountItem

from tests.e2e.stores import bus_of, store_of
from tests.stacks import Federation, Story, eventually, federation
from tests.trainers import LARGE

HURT_IN = 2


@dataclass(frozen=True, slots=True)
class Stage:
    """A session in mid-round, and the process that is to die, so far unharmed."""

    fed: Federation
    session: str
    process: str
    arm: Callable[[], Awaitable[None]]
    doomed: Callable[[], Awaitable[None]]

    @property
    def story(self) -> Story:
        """What the session told so far."""
        return self.fed.stories[self.session]


Scene: TypeAlias = Callable[[Stage], Awaitable[None]]


async def go_on(stage: Stage) -> None:
    """Let the third client answer: the round closes, the next begins."""
    await stage.arm()
    stage.fed.gate.open()
    await stage.doomed()


async def wait(stage: Stage) -> None:
    """Wait in the middle of the round."""
    await stage.arm()
    await stage.doomed()


async def hold_the_next_round(stage: Stage) -> None:
    """Go on to the next round and hold the third client there, so that a batch is folded in its middle."""
    await stage.arm()
    stage.fed.gate.open()
    stage.fed.gate.close(stage.fed.names[2:], HURT_IN + 1)
    await stage.doomed()


async def newcomer(stage: Stage) -> None:
    """Let a client join that was never there, in a project of its own."""
    await stage.arm()
    async with federation(stage.fed.stack, 1):
        await stage.doomed()


async def leave_a_piece(stage: Stage) -> None:
    """Beside the session, end a round that one client missed with a piece of its update uploaded."""
    async with federation(stage.fed.stack, 2) as fed, store_of(fed.stack) as store:
        fed.gate.close(fed.names, 1)
        session = await fed.start(LARGE, rounds=1, invited=2, target=1, minimum=1)
        late = await fed.pseudonym(fed.names[1])
        content = bytes(1000)
        digest = sha256(content).hexdigest()
        prefix = keys.pieces(fed.project, late, digest)
        await store.put(keys.piece(prefix, 2 * len(content), 0, len(content), digest), [content])
        await stage.arm()
        fed.gate.open()
        fed.gate.close(fed.names[1:], 1)
        await stage.doomed()
        await fed.ended(session)

        async def swept() -> bool:
            return digest not in "".join(await store.list(keys.pieces_of_client(fed.project, late)))

        await eventually(swept, "the piece is deleted")
        await fed.assert_sound(session)


async def finish_without_model(stage: Stage) -> None:
    """Take the round's model away from the store until the service has met its absence."""
    async with _model_lost(stage):
        await stage.arm()
        stage.fed.gate.open()
        await stage.doomed()


async def mail_without_model(stage: Stage) -> None:
    """The same while everybody is to be told of the round again."""
    async with _model_lost(stage):
        await stage.arm()
        await stage.fed.order(stage.session, "pause")
        await stage.fed.order(stage.session, "resume")
        await stage.doomed()


@asynccontextmanager
async def _model_lost(stage: Stage) -> AsyncIterator[None]:
    fed = stage.fed
    async with store_of(fed.stack) as store:
        place = keys.model(fed.project, (await fed.show(stage.session))["model"])
        content = await store.get(place, 2**20)
        await store.delete([place])
        try:
            yield
        finally:
            await store.put(place, [content])


async def pause_while_redis_sleeps(stage: Stage) -> None:
    """Pause the session while Redis does not answer: deciding and performing take long."""
    await stage.arm()
    async with redis_asleep(stage), asyncio.TaskGroup() as tasks:
        # The api may say "retry later" or "it is paused": what counts is that it is stored.
        asking = tasks.create_task(
            stage.fed.http.post(f"/v1/sessions/{stage.session}/pause", timeout=None)
        )
        await stage.doomed()
        asking.cancel()

    async def paused() -> bool:
        return bool((await stage.fed.show(stage.session))["phase"] == "paused")

    await eventually(paused, "it is paused")
    await stage.fed.order(stage.session, "resume")


async def recount_while_redis_sleeps(stage: Stage) -> None:
    """Order a stored update to be counted again while Redis does not answer."""
    subject, sequence = stored(stage)
    project, session = stage.fed.project, stage.session
    item = RecountItem(project=project, session=session, subject=subject, sequence=sequence)
    await stage.arm()
    async with redis_asleep(stage), bus_of(stage.fed.stack, "controller") as bus:
        await bus.streams.append(subjects.work(project, session, item.kind), item.to_bytes())
        await stage.doomed()


async def count_while_redis_sleeps(stage: Stage) -> None:
    """Store an update, of a session that does not exist, while Redis does not answer."""
    subject, _ = stored(stage)
    await stage.arm()
    async with redis_asleep(stage), bus_of(stage.fed.stack, "combiner") as bus:
        elsewhere = subject.replace(f".{stage.session}.", f".{unknown(stage)}.")
        await bus.streams.append(elsewhere, b"{}")
        await stage.doomed()


@asynccontextmanager
async def redis_asleep(stage: Stage) -> AsyncIterator[None]:
    stack = stage.fed.stack
    await asyncio.to_thread(stack.kill, "redis", signal.SIGSTOP)
    try:
        yield
    finally:
        await asyncio.to_thread(stack.kill, "redis", signal.SIGCONT)


def unknown(stage: Stage) -> str:
    """Name a session that does not exist, another one at each point: UPDATES keeps what was stored."""
    return f"{stage.session}-none"


def stored(stage: Stage) -> tuple[str, int]:
    """Give the subject and sequence of an update that is stored for the round."""
    said = stage.story.of_round("update.stored", HURT_IN)[0].data
    subject = subjects.update(stage.fed.project, stage.session, HURT_IN, said["client"], 1)
    return subject, said["sequence"]
