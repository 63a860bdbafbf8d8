"""What a round leaves in the object store: pieces of uploads that came too late go, whole updates stay."""

import hashlib

import pytest
from fedbus_controller.leftovers import SWEEP_EVERY_S, UNFINISHED_AGE_MAX, Leftovers
from fedbus_core.rounds.state import Outcome, Session
from fedbus_runtime.memory_blobs import MemoryBlobs
from fedbus_runtime.memory_clock import ManualClock
from fedbus_schemas import keys
from fedbus_schemas.events import Participant
from fedbus_schemas.models import ModelRef
from fedbus_schemas.sessions import SessionSettings

PROJECT = "demo"
COUNTED, LATE, ELSEWHERE = ("c" + letter * 16 for letter in "abe")
HASH = "0" * 64
KEY = "A" * 43
CLOCK = ManualClock()


def session(size: int = 1_000_000) -> Session:
    model = ModelRef(digest=HASH, size=size, layout=HASH, exponents=(0,))
    cohort = tuple(Participant(client=client, key=KEY) for client in (COUNTED, LATE))
    outcome = Outcome(3, 2, "ab" * 16, model, cohort, frozenset({COUNTED}))
    settings = SessionSettings()
    return Session(PROJECT, "s-1", settings, model, 5, completed=3, outcome=outcome)


async def piece(store: MemoryBlobs, client: str, update: str, size: int, start: int) -> str:
    data = f"{client}{update}{start}".encode()
    digest = hashlib.sha256(data).hexdigest()
    prefix = keys.pieces(PROJECT, client, update * 64)
    key = keys.piece(prefix, size, start, 10, digest)
    await store.put(key, [data])
    return key


async def filled() -> tuple[MemoryBlobs, set[str]]:
    """A store with pieces, and those that are to stay."""
    store = MemoryBlobs()
    store.now = CLOCK.now
    stay = {await piece(store, client, "1", 10, 0) for client in (COUNTED, LATE)}
    stay |= {await piece(store, client, "2", 30, 0) for client in (COUNTED, ELSEWHERE)}
    for start in (0, 20):
        await piece(store, LATE, "2", 30, start)
    return store, stay


async def test_the_unfinished_uploads_of_those_who_missed_the_round_go() -> None:
    store, stay = await filled()
    await Leftovers(store, CLOCK).drop(session(), 3, 2)
    assert set(store.content) == stay


@pytest.mark.parametrize(("number", "attempt", "size"), [(2, 1, 10**6), (3, 1, 10**6), (3, 2, 10)])
async def test_other_rounds_and_small_models_cost_nothing(
    number: int, attempt: int, size: int
) -> None:
    store, _ = await filled()
    before = set(store.content)
    await Leftovers(store, CLOCK).drop(session(size), number, attempt)
    assert set(store.content) == before


async def test_a_store_that_is_away_holds_nobody_up() -> None:
    store, _ = await filled()
    store.away = True
    await Leftovers(store, CLOCK).drop(session(), 3, 2)


async def test_an_upload_that_nothing_was_added_to_for_a_day_goes_whoever_it_is_from() -> None:
    store, clock = MemoryBlobs(), ManualClock()
    store.now = clock.now
    leftovers = Leftovers(store, clock)
    whole = await piece(store, ELSEWHERE, "1", 10, 0)
    for start in (0, 20):
        await piece(store, ELSEWHERE, "2", 30, start)
    slow = await piece(store, ELSEWHERE, "3", 30, 0)
    clock.advance(UNFINISHED_AGE_MAX.total_seconds() + 1)
    added = await piece(store, ELSEWHERE, "3", 30, 10)
    await leftovers.drop(session(), 3, 2)
    assert set(store.content) == {whole, slow, added}
    clock.advance(UNFINISHED_AGE_MAX.total_seconds() + 1)
    assert UNFINISHED_AGE_MAX.total_seconds() > SWEEP_EVERY_S
    await leftovers.drop(session(), 3, 2)
    assert set(store.content) == {whole}
