"""Poison in the queues of a running stack: it is listed, harms nobody, and an operator has the last word."""

import os

import numpy as np
from fedbus_local.stack import LocalStack
from fedbus_schemas import keys, subjects

from tests.e2e.stores import bus_of, store_of
from tests.stacks import Federation, Json, eventually, federation
from tests.trainers import TINY

LETTERS = "/v1/dead-letters"


async def letters(fed: Federation, count: int) -> list[Json]:
    """Wait for so many dead letters."""

    async def look() -> list[Json]:
        items: list[Json] = (await fed.ask("GET", LETTERS))["items"]
        return items if len(items) >= count else []

    found: list[Json] = await eventually(look, f"{count} dead letters")
    return found


async def test_a_lost_model_holds_a_round_up_until_it_is_back(stack: LocalStack) -> None:
    # A layout of its own, that no combiner has in its cache.
    name = f"w{os.urandom(4).hex()}"
    model = {**TINY, name: np.ones(3, np.float32)}
    async with federation(stack, 2) as fed, store_of(stack) as store:
        fed.gate.close(fed.names[1:], 1)
        session = await fed.start(model, rounds=2)
        story = fed.stories[session]
        await story.until(lambda: len(story.stored(1)) == 1, "half of round 1")
        place = keys.model(fed.project, (await fed.show(session))["model"])
        content = await store.get(place, 2**20)
        await store.delete([place])
        fed.gate.open()
        [letter] = await letters(fed, 1)
        assert (letter["stream"], letter["code"]) == ("WORK", "blob_missing")
        assert letter["subject"] == subjects.work(fed.project, session, "finish")
        view = await fed.show(session)
        assert view["round"]["phase"] == "closing"
        assert view["stuck"]["dead_letter"] == letter["sequence"]
        assert session in (await fed.ask("GET", "/v1/status"))["stuck"]
        # The cause is gone: deliver it again, twice, and it is delivered once.
        await store.put(place, [content])
        for _ in range(2):
            done = await fed.ask("POST", f"{LETTERS}/{letter['sequence']}/retry")
            assert done["fate"] == "retried"
        await fed.ended(session)
        await fed.assert_sound(session)
        assert (await fed.show(session))["stuck"] is None
        assert (await fed.ask("GET", LETTERS))["items"] == []


async def test_poison_kills_nobody_and_can_be_dropped(stack: LocalStack) -> None:
    before = {one.name: (one.pid, one.restarts) for one in stack.status().processes}
    async with federation(stack, 2) as fed, bus_of(stack, "controller") as bus:
        fed.gate.close(fed.names[1:], 1)
        session = await fed.start(TINY, rounds=2)
        poison = [
            (subjects.work(fed.project, session, "finish"), b"\xff no json"),
            (subjects.work(fed.project, session, "fold"), b'{"kind":"unknown"}'),
            (subjects.result(fed.project, session), b'{"kind":"finished"}'),
            (subjects.redo(fed.project, session), b"[]"),
        ]
        for subject, data in poison:
            await bus.streams.append(subject, data)
        found = await letters(fed, len(poison))
        assert {(one["subject"], one["code"]) for one in found} == {
            (subject, "unreadable") for subject, _ in poison
        }
        fed.gate.open()
        await fed.ended(session)
        await fed.assert_sound(session)
        # A retry of what is still poison brings it back as another letter.
        again = next(one for one in found if one["subject"] == poison[0][0])
        await fed.ask("POST", f"{LETTERS}/{again['sequence']}/retry")
        found = await letters(fed, len(poison))
        assert again["sequence"] not in {one["sequence"] for one in found}
        for one in found:
            gone = await fed.ask("DELETE", f"{LETTERS}/{one['sequence']}")
            assert (gone["fate"], gone["by"]) == ("dropped", "first administrator")
        assert (await fed.ask("GET", LETTERS))["items"] == []
    assert {one.name: (one.pid, one.restarts) for one in stack.status().processes} == before


async def test_dead_deliveries_of_the_log_and_of_updates_are_done_again(stack: LocalStack) -> None:
    async with federation(stack, 2) as fed, bus_of(stack, "combiner") as bus:
        fed.gate.close(fed.names[1:], 1)
        session = await fed.start(TINY, rounds=1)
        story = fed.stories[session]
        await story.until(lambda: len(story.stored(1)) == 1, "half of round 1")
        [stored] = story.of_round("update.stored", 1)
        update = subjects.update(fed.project, session, 1, stored.data["client"], 1)
        for stream, subject, sequence in (
            ("UPDATES", update, stored.data["sequence"]),
            ("EVENTS", subjects.event(fed.project, session), 1),
        ):
            headers = {"Dead-Code": "deliveries_used_up", "Dead-Sequence": str(sequence)}
            await bus.streams.append(subjects.dead(stream, subject), b"", headers=headers)
        for one in await letters(fed, 2):
            done = await fed.ask("POST", f"{LETTERS}/{one['sequence']}/retry")
            assert done["fate"] == "retried"
        fed.gate.open()
        await fed.ended(session)
        await fed.assert_sound(session)
        [only] = await fed.rounds(session)
        assert only["counted"] == 2
        assert (await fed.ask("GET", LETTERS))["items"] == []
