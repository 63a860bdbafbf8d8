"""Sessions on the whole stack: from the start to the end, side by side, and on an operator's orders."""

import asyncio

import pytest
from fedbus_local.stack import LocalStack
from fedbus_schemas.events import RoundCompleted

from tests.stacks import Json, Lines, eventually, federation, read_events
from tests.trainers import LARGE, TINY


@pytest.mark.parametrize("model", [TINY, LARGE], ids=["inline", "through-the-store"])
async def test_a_session_runs_to_its_end(stack: LocalStack, lines: Lines, model: Json) -> None:
    async with federation(stack, clients=3) as fed:
        session = await fed.start(model, rounds=3)
        story = fed.stories[session]
        last = await fed.ended(session)
        assert [one.data["round"] for one in story.all("round.completed.v1")] == [1, 2, 3]
        events = await fed.assert_sound(session)
        counted = [event.counted for event in events if isinstance(event, RoundCompleted)]
        assert [len(each) for each in counted] == [3, 3, 3]

        for number in (1, 2, 3):  # every client hears that its update counts
            await lines.until(f"{session} round {number}.1: update counted", 3)

        async def validated() -> bool:
            views = await fed.rounds(session)
            return [one["validation"]["reports"] for one in views] == [3, 3, 3]

        await eventually(validated, "all models are validated")
        newest = (await fed.rounds(session))[-1]
        assert newest["validation"]["metrics"]["round"] == 3.0
        lineage = await fed.ask("GET", f"/v1/models/{last}/lineage")
        assert [one["round"] for one in lineage["items"][:3]] == [3, 2, 1]
        assert lineage["complete"]
        seed = lineage["items"][-1]["digest"]
        made = await fed.ask("GET", f"/v1/models/{seed}/descendants", params={"sort": "round"})
        assert [one["round"] for one in made["items"]] == [1, 2, 3]
        ends = await fed.ask("GET", "/v1/models/leaves")
        assert [one["digest"] for one in ends["items"]] == [last]
        inside = await fed.ask("GET", f"/v1/models/{last}/parameters")
        assert inside["parameters"] == sum(array.size for array in model.values())
        staged = await fed.ask("PUT", "/v1/stages/production", json={"model": last})
        assert (staged["model"], len(staged["history"])) == (last, 1)


async def test_sessions_run_side_by_side_over_the_same_clients(stack: LocalStack) -> None:
    async with federation(stack, clients=4) as fed:
        sessions = await asyncio.gather(
            fed.start(TINY, rounds=3, seed=1),
            fed.start(LARGE, rounds=2, seed=1),
            fed.start(TINY, rounds=3, seed=2),
            fed.start(TINY, rounds=3, seed=1),
        )
        models = await asyncio.gather(*(fed.ended(one) for one in sessions))
        assert models[0] == models[3], "the same seeds and clients make the same model"
        assert len(set(models)) == 3
        for one in sessions:
            await fed.assert_sound(one)


async def test_a_pause_finishes_the_round_and_an_extension_adds_some(stack: LocalStack) -> None:
    async with federation(stack, clients=2) as fed:
        fed.gate.close(fed.names[:1], 2)
        session = await fed.start(TINY, rounds=3)
        story = fed.stories[session]
        await story.until(lambda: story.stored(2), "an update of round 2 is stored")
        assert (await fed.order(session, "pause"))["phase"] == "paused"
        fed.gate.open()
        await story.until(lambda: story.of_round("round.completed.v1", 2), "round 2 completes")
        paused = await fed.show(session)
        assert (paused["phase"], paused["rounds_completed"], paused["round"]) == ("paused", 2, None)
        await fed.order(session, "resume")
        await fed.ended(session)
        await fed.order(session, "extend", rounds=2)
        await story.until(lambda: story.of_round("round.completed.v1", 5), "round 5 completes")
        await fed.ended(session)
        assert (await fed.show(session))["rounds_completed"] == 5
        await fed.assert_sound(session)


async def test_a_stop_gives_the_open_round_up(stack: LocalStack, lines: Lines) -> None:
    async with federation(stack, clients=2) as fed:
        fed.gate.close(fed.names[:1], 2)
        session = await fed.start(TINY, rounds=3)
        story = fed.stories[session]
        await story.until(lambda: story.stored(2), "an update of round 2 is stored")
        await fed.order(session, "stop", reason="enough")
        await fed.ended(session, "stopped")
        view = await fed.show(session)
        assert (view["reason"], view["rounds_completed"]) == ("enough", 1)
        # One had sent an update and hears its fate; the other is still training and is told to leave off.
        await lines.until(f"{session} round 2.1: the attempt ended without a model", 1)
        await lines.until(f"{session} round 2.1: the task was withdrawn", 1)
        await fed.assert_sound(session)


async def test_the_event_stream_resumes_where_it_was(stack: LocalStack) -> None:
    async with federation(stack, clients=2) as fed:
        session = await fed.start(TINY, rounds=3)
        await fed.ended(session)
        whole = [one async for one in read_events(fed.http, session, follow=False)]
        logged = [one for one in whole if "number" in one.content]
        numbers = [one.number for one in logged if one.number is not None]
        assert numbers == sorted(set(numbers))
        assert logged[-1].number == numbers[-1]
        for at, one in enumerate(logged):
            if one.number is None:
                continue
            rest = [each async for each in read_events(fed.http, session, one.number, follow=False)]
            assert rest == logged[at + 1 :]
