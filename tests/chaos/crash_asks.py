"""Scenes in which a client says something to a combiner that dies over it, and says it again."""

import asyncio
from hashlib import sha256

import nats.errors
from fedbus_runtime.system_clock import SystemClock
from fedbus_schemas import keys
from fedbus_schemas.asks import Answer, Beat, TransferDone
from fedbus_schemas.records import (
    AttributesRecord,
    Backlog,
    RecordBatch,
    TelemetryRecord,
)

from tests.chaos.crash_scenes import Stage
from tests.e2e.stores import store_of
from tests.rogue import Rogue
from tests.stacks import Json, eventually

ASK_AGAIN_S = 0.5
ANSWER_WITHIN_S = 2.0
OUTBOX = "crashcrashcrashc"


async def ask_nonsense(stage: Stage) -> None:
    """Send a report that nobody can read: it is noted."""
    answer = await say(stage, "report", b"{")
    assert answer.refusal is not None


async def tell_of_a_backlog(stage: Stage) -> None:
    """Beat, and say what waits to be sent."""
    backlog = Backlog(total=1, bytes=10, dropped=0)
    answer = await say(stage, "beat", Beat(backlog=backlog).to_bytes())
    assert answer.noted is not None


async def say_goodbye(stage: Stage) -> None:
    """Leave: the round goes on with the client, whose update is on its way; its next beat brings it back."""
    answer = await say(stage, "beat", Beat(leaving=True).to_bytes())
    assert answer.noted is not None
    answer = await _ask_until_answered(stage, "beat", Beat().to_bytes())
    assert answer.noted is not None


async def give_up_an_upload(stage: Stage) -> None:
    """Give up an upload of which one piece is there: it goes, however often this is said."""
    fed = stage.fed
    me = await fed.pseudonym(fed.names[2])
    content = bytes(1000)
    digest = sha256(content).hexdigest()
    prefix = keys.pieces(fed.project, me, digest)
    async with store_of(fed.stack) as store:
        await store.put(keys.piece(prefix, 2 * len(content), 0, len(content), digest), [content])
        done = TransferDone(blob=digest, given_up=True)
        assert (await say(stage, "done", done.to_bytes())).noted is not None
        assert await store.list(prefix) == []


async def log_something(stage: Stage) -> None:
    """Log an attribute and a line of telemetry: however often the batch comes, each is kept once."""
    now = SystemClock().now()
    number = int(now.timestamp() * 1000)
    batch = RecordBatch(
        stream=OUTBOX,
        batch=number,
        records=(
            AttributesRecord(number=number, time=now, attributes={"batch": number}),
            TelemetryRecord(number=number + 1, time=now, key="crash", payload=number),
        ),
    )
    answer = await say(stage, "records", batch.to_bytes())
    assert answer.noted is not None


async def say(stage: Stage, verb: str, content: bytes) -> Answer:
    """Ask in the third client's name until there is an answer."""
    await stage.arm()
    answer = await _ask_until_answered(stage, verb, content)
    await stage.doomed()
    return answer


async def _ask_until_answered(stage: Stage, verb: str, content: bytes) -> Answer:
    rogue = await Rogue.connect(stage.fed.sites[2].credentials)

    async def look() -> Json:
        try:
            return await asyncio.wait_for(rogue.ask(verb, content), ANSWER_WITHIN_S)
        except (TimeoutError, nats.errors.Error):
            await asyncio.sleep(ASK_AGAIN_S)
            return None

    answer: Answer = await eventually(look, "an answer")
    await rogue.nats.close()
    return answer
