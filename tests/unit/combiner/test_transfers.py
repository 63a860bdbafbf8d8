"""Places for transfers: who gets one, who is told to come again, and when a place is free."""

from datetime import timedelta

import pytest
from fedbus_combiner.ingest import Submitted
from fedbus_combiner.transfers import RETRY_AFTER_MAX_S, TURN_S, Places
from fedbus_runtime.errors import RecordsAway, StoreAway
from fedbus_runtime.memory_clock import ManualClock
from fedbus_runtime.memory_records import MemoryRedis, MemoryTransfers
from fedbus_runtime.ports import TransferLimits
from fedbus_schemas.asks import (
    Answer,
    Grant,
    GrantRequest,
    PiecesGrant,
    PiecesRequest,
    TransferDone,
)
from fedbus_schemas.models import BlobRef
from fedbus_schemas.refusals import Refusal, RefusalCode
from fedbus_schemas.registry import ClientRecord
from fedbus_schemas.updates import Manifest, Submission

from tests.unit.combiner.people import client

P = "p"


class World:
    def __init__(self, transfers: int = 1) -> None:
        self.clock = ManualClock()
        self.redis = MemoryRedis()
        limits = TransferLimits(transfers=transfers, bytes=1000, lease=timedelta(seconds=30))
        self.places = Places(MemoryTransfers(self.redis), limits, self.clock)
        self.answer = granted()
        self.asked = 0
        self.refusal: Refusal | None = None
        self.grant = self.places.for_grants(self.handle, self.judge)
        self.pieces = self.places.for_grants(self.handle_pieces, self.judge)
        self.submit = self.places.for_submissions(self.take)
        self.forgotten: list[str] = []
        self.done = self.places.for_endings(self.forget)

    async def handle(self, project: str, sender: ClientRecord, wanted: GrantRequest) -> Answer:
        self.asked += 1
        return self.answer

    async def handle_pieces(
        self, project: str, sender: ClientRecord, wanted: PiecesRequest
    ) -> Answer:
        self.asked += 1
        return self.answer

    async def forget(self, project: str, sender: ClientRecord, digest: str) -> None:
        self.forgotten.append(f"{sender.client} {digest}")

    async def take(self, project: str, sender: ClientRecord, given: Submitted) -> Answer:
        self.asked += 1
        return self.answer

    async def judge(
        self, project: str, sender: ClientRecord, wanted: GrantRequest | PiecesRequest
    ) -> Refusal | None:
        return self.refusal

    def client(self, letter: str) -> ClientRecord:
        return client(letter, self.clock.now())

    async def ask(self, letter: str, digest: str = "1" * 64) -> Answer:
        request = GrantRequest(
            purpose="upload", session="s-1", round=1, blob=BlobRef(digest=digest, size=10)
        )
        return await self.grant(P, self.client(letter), request)


def granted(*, exists: bool = False) -> Answer:
    expires = ManualClock().now()
    return Answer(grant=Grant(method="PUT", url="http://s", expires=expires, exists=exists))


def submitted(letter: str, inline: str | None = None) -> Submitted:
    manifest = Manifest(
        project=P,
        session="s-1",
        round=1,
        attempt=1,
        client="c" + letter * 16,
        base="0" * 64,
        update=BlobRef(digest="1" * 64, size=10),
        weight=1,
    )
    text = manifest.model_dump_json()
    return Submitted(
        Submission(manifest=text, key="k" * 43, signature="s" * 86, inline=inline), manifest
    )


def code(answer: Answer) -> RefusalCode | None:
    return answer.refusal.code if answer.refusal else None


async def test_who_finds_no_place_is_told_when_to_come_again() -> None:
    world = World()
    assert code(await world.ask("a")) is None
    assert code(await world.ask("a")) is None, "it has its place"
    hints = []
    for letter in "bcdefghijklmnopqrstuvwxyz":
        answer = await world.ask(letter)
        assert answer.refusal is not None
        assert answer.refusal.code is RefusalCode.RETRY_LATER
        assert answer.refusal.retry_after_s is not None
        hints.append(answer.refusal.retry_after_s)
    assert hints == sorted(hints), "the more wait, the longer"
    assert (hints[0], hints[-1]) == (2 * TURN_S, RETRY_AFTER_MAX_S)
    assert world.asked == 2, "what is refused costs the object store nothing"


async def test_a_submission_and_a_done_give_the_place_back() -> None:
    world = World()
    await world.ask("a")
    assert code(await world.ask("b")) is RefusalCode.RETRY_LATER
    await world.submit(P, world.client("a"), submitted("a"))
    assert code(await world.ask("b")) is None
    done = TransferDone(blob="1" * 64)
    await world.done(P, world.client("c"), done)  # not the one who has it
    assert code(await world.ask("a")) is RefusalCode.RETRY_LATER
    await world.done(P, world.client("b"), done)
    assert code(await world.ask("a")) is None


@pytest.mark.parametrize(
    "answer",
    [
        granted(exists=True),
        Answer(refusal=Refusal(code=RefusalCode.NOT_IN_COHORT)),
        Answer(pieces=PiecesGrant(stored=5)),
    ],
)
async def test_what_moves_nothing_takes_no_place(answer: Answer) -> None:
    world = World()
    world.answer = answer
    assert await world.ask("a") == answer
    world.answer = granted()
    assert code(await world.ask("b")) is None


async def test_a_dead_client_frees_its_place_and_a_question_needs_none() -> None:
    world = World()
    await world.ask("a")
    question = PiecesRequest(
        session="s-1",
        round=1,
        attempt=1,
        blob=BlobRef(digest="2" * 64, size=10),
        pieces=(),
    )
    assert code(await world.pieces(P, world.client("b"), question)) is None
    assert code(await world.ask("b")) is RefusalCode.RETRY_LATER
    world.clock.advance(30)
    assert code(await world.ask("b")) is None


async def test_no_grants_while_redis_is_away() -> None:
    world = World()
    world.redis.away = True
    with pytest.raises(RecordsAway):
        await world.ask("a")


async def test_a_store_that_is_away_holds_the_place_no_longer_than_the_lease() -> None:
    world = World()

    async def away(project: str, sender: ClientRecord, wanted: GrantRequest) -> Answer:
        raise StoreAway("503")

    world.grant = world.places.for_grants(away, world.judge)
    with pytest.raises(StoreAway):
        await world.ask("a")
    world.grant = world.places.for_grants(world.handle, world.judge)
    assert code(await world.ask("b")) is RefusalCode.RETRY_LATER
    world.clock.advance(30)
    assert code(await world.ask("b")) is None


async def test_what_may_not_be_moved_takes_no_place_and_is_not_told_to_come_again() -> None:
    world = World()
    assert (await world.ask("a")).grant is not None
    world.refusal = Refusal(code=RefusalCode.TOO_LARGE)
    refused = await world.ask("b", "2" * 64)
    assert refused.refusal == world.refusal
    assert world.asked == 1
    world.refusal = None
    waiting = await world.ask("b", "2" * 64)
    assert waiting.refusal is not None
    assert waiting.refusal.code is RefusalCode.RETRY_LATER


async def test_an_update_that_rides_along_asks_nobody_and_one_apart_does_not_fail_for_it() -> None:
    world = World()
    world.redis.away = True
    for inline in ("AAAA", None):
        await world.submit(P, world.client("a"), submitted("a", inline))
    assert world.asked == 2


async def test_what_a_client_gave_up_is_forgotten() -> None:
    world = World()
    await world.done(P, world.client("a"), TransferDone(blob="1" * 64))
    assert world.forgotten == []
    await world.done(P, world.client("a"), TransferDone(blob="1" * 64, given_up=True))
    assert world.forgotten == [f"{world.client('a').client} {'1' * 64}"]
