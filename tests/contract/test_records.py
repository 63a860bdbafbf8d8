"""The live round state, presence and documents: over memory and over Valkey the same must hold."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from fedbus_runtime.errors import RecordsAway
from fedbus_runtime.ports import LiveRound, RoundKey, TransferLimits
from fedbus_schemas.models import BlobRef
from fedbus_schemas.work import PartialRecord

from tests.worlds import RecordsWorld

NOW = datetime(2026, 3, 1, 12, 0, 0, 123_000, tzinfo=UTC)


def key_of(records: RecordsWorld) -> RoundKey:
    return RoundKey(records.project, "s1", 3, 1)


def live(records: RecordsWorld, number: int) -> LiveRound:
    return LiveRound(
        project=records.project,
        session="s1",
        number=number,
        phase="collecting",
        round=3,
        attempt=1,
        target=10,
        batch_size=4,
    )


def clients(count: int) -> dict[str, int]:
    return {f"c{each:016d}": each + 1 for each in range(count)}


async def test_keeps_the_newest_round(records: RecordsWorld) -> None:
    assert await records.rounds.get_round(records.project, "s1") is None
    await records.rounds.put_round(live(records, 9))
    await records.rounds.put_round(live(records, 7))
    assert await records.rounds.get_round(records.project, "s1") == live(records, 9)
    await records.rounds.put_round(replace(live(records, 10), phase="closing"))
    newest = await records.rounds.get_round(records.project, "s1")
    assert newest is not None
    assert newest.phase == "closing"


async def test_counting_is_a_union(records: RecordsWorld) -> None:
    key = key_of(records)
    first = await records.rounds.count(key, {"a": 1, "b": 2}, 100)
    again = await records.rounds.count(key, {"a": 1, "b": 2}, 100)
    more = await records.rounds.count(key, {"b": 9, "c": 3}, 100)
    assert (first.stored, again.stored, more.stored) == (2, 2, 3)
    assert await records.rounds.counted(key) == {"a": 1, "b": 2, "c": 3}
    assert (await records.rounds.count(key, {}, 100)).stored == 3


async def test_each_full_batch_is_handed_out_once(records: RecordsWorld) -> None:
    key = key_of(records)
    everyone = clients(10)
    tallies = await asyncio.gather(
        *(records.rounds.count(key, {client: at}, 4) for client, at in everyone.items()),
        *(records.rounds.count(key, {client: at}, 4) for client, at in everyone.items()),
    )
    batches = [batch for tally in tallies for batch in tally.batches]
    assert [len(batch) for batch in batches] == [4, 4]
    handed_out = [client for batch in batches for client in batch]
    assert len(set(handed_out)) == 8
    assert max(tally.stored for tally in tallies) == 10


async def test_many_updates_at_once(records: RecordsWorld) -> None:
    tally = await records.rounds.count(key_of(records), clients(2500), 1000)
    assert tally.stored == 2500
    assert [len(batch) for batch in tally.batches] == [1000, 1000]


async def test_after_a_flush_counting_again_gives_the_same(records: RecordsWorld) -> None:
    key = key_of(records)
    everyone = clients(20)
    await records.rounds.count(key, everyone, 6)
    await records.flush()
    assert await records.rounds.get_round(records.project, "s1") is None
    assert await records.rounds.counted(key) == {}
    part = dict(list(everyone.items())[:3])
    await asyncio.gather(
        records.rounds.count(key, part, 6),
        records.rounds.count(key, everyone, 6),
        records.rounds.count(key, everyone, 6),
    )
    assert await records.rounds.counted(key) == everyone


async def test_attempts_do_not_mix_and_are_forgotten(records: RecordsWorld) -> None:
    key = key_of(records)
    other = replace(key, attempt=2)
    partial = PartialRecord(
        clients=("c" + "a" * 16,), blob=BlobRef(digest="a" * 64, size=3), worker="w1"
    )
    newer = partial.model_copy(update={"blob": BlobRef(digest="b" * 64, size=4)})
    await records.rounds.count(key, {"a": 1}, 5)
    await records.rounds.put_partial(key, newer)
    await records.rounds.put_partial(key, partial)
    await records.rounds.put_partial(key, partial)
    assert await records.rounds.partials(key) == [partial, newer]
    assert await records.rounds.partials(other) == []
    assert await records.rounds.counted(other) == {}
    await records.rounds.forget(key)
    await records.rounds.forget(key)
    assert await records.rounds.counted(key) == {}
    assert await records.rounds.partials(key) == []


async def test_knows_who_is_online(records: RecordsWorld) -> None:
    presence = records.presence
    assert await presence.online(records.project, NOW) is None
    await presence.seen(records.project, ["a", "b"], NOW)
    later = NOW + timedelta(seconds=10)
    await presence.seen(records.project, ["b"], later)
    await presence.seen(records.project, ["b"], NOW)  # an old beat does not turn time back
    assert await presence.online(records.project, NOW) == {"a": NOW, "b": later}
    assert await presence.online(records.project, later) == {"b": later}
    assert await presence.online(records.project, later + timedelta(seconds=1)) == {}
    assert await presence.known_since(records.project) == NOW
    await records.flush()
    assert await presence.online(records.project, NOW) is None
    assert await presence.known_since(records.project) is None


async def test_who_left_is_not_online_until_it_is_seen_again(records: RecordsWorld) -> None:
    presence = records.presence
    before = NOW - timedelta(minutes=1)
    await presence.gone(records.project, ["a"], before)  # says nothing of the others
    assert await presence.online(records.project, before) is None
    await presence.seen(records.project, ["a", "b", "c"], NOW)
    await presence.gone(records.project, ["a", "b"], before)
    assert await presence.online(records.project, NOW) == {"c": NOW}
    assert await presence.online(records.project, before) == {"a": before, "b": before, "c": NOW}
    await presence.seen(records.project, ["b"], NOW)
    assert await presence.online(records.project, NOW) == {"b": NOW, "c": NOW}


async def test_keeps_the_newest_document(records: RecordsWorld) -> None:
    documents, project = records.documents, records.project
    assert await documents.get(project, "session", "s1") is None
    await documents.put(project, "session", "s1", 5, b"five")
    await documents.put(project, "session", "s1", 4, b"four")
    assert await documents.get(project, "session", "s1") == (5, b"five")
    await documents.put(project, "session", "s1", 6, b"\x00six")
    assert await documents.get(project, "session", "s1") == (6, b"\x00six")
    assert await documents.get(project, "round", "s1") is None


async def test_away_and_back_under_another_name(records: RecordsWorld) -> None:
    key = key_of(records)
    await records.rounds.count(key, {"a": 1}, 5)
    epoch = records.rounds.epoch()
    assert epoch
    await records.kill()
    with pytest.raises(RecordsAway):
        await records.rounds.counted(key)
    with pytest.raises(RecordsAway):
        await records.presence.seen(records.project, ["a"], NOW)
    await records.start()
    assert (await records.rounds.count(key, {"a": 1}, 5)).stored == 1
    assert records.rounds.epoch() != epoch


LIMITS = TransferLimits(transfers=2, bytes=100, lease=timedelta(seconds=30))


async def test_so_many_transfers_at_once(records: RecordsWorld) -> None:
    places, project = records.transfers, records.project
    assert [await places.take(project, name, 10, LIMITS, NOW) for name in "abcdc"] == [
        0,
        0,
        1,
        2,
        2,
    ]
    assert await places.take(project, "a", 10, LIMITS, NOW) == 0  # it has its place already
    await places.release(project, "a")
    await places.release(project, "a")
    assert await places.take(project, "d", 10, LIMITS, NOW) == 0
    assert await places.take(project, "c", 10, LIMITS, NOW) == 1
    await places.release(project, "c")
    assert await places.take(project, "e", 10, LIMITS, NOW) == 1
    assert await places.take(f"{project}x", "e", 10, LIMITS, NOW) == 0


async def test_so_many_bytes_at_once_but_one_transfer_always(records: RecordsWorld) -> None:
    places, project = records.transfers, records.project
    assert await places.take(project, "huge", 1_000, LIMITS, NOW) == 0
    assert await places.take(project, "tiny", 1, LIMITS, NOW) == 1
    await places.release(project, "huge")
    assert await places.take(project, "tiny", 60, LIMITS, NOW) == 0
    assert await places.take(project, "more", 41, LIMITS, NOW) == 1
    assert await places.take(project, "more", 40, LIMITS, NOW) == 0


async def test_a_place_is_free_again_when_its_lease_ends(records: RecordsWorld) -> None:
    places, project = records.transfers, records.project
    for name in "ab":
        assert await places.take(project, name, 50, LIMITS, NOW) == 0
    later = NOW + timedelta(seconds=20)
    assert await places.take(project, "b", 50, LIMITS, later) == 0  # asks again, so it lives
    assert await places.take(project, "c", 50, LIMITS, later) == 1
    assert await places.take(project, "c", 50, LIMITS, NOW + LIMITS.lease) == 0
    assert await places.take(project, "d", 50, LIMITS, later + LIMITS.lease) == 0


async def test_places_are_unknown_while_the_server_is_away(records: RecordsWorld) -> None:
    await records.kill()
    with pytest.raises(RecordsAway):
        await records.transfers.take(records.project, "a", 1, LIMITS, NOW)
    await records.start()
