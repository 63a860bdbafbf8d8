"""What target, minimum and deadline decide on the whole stack, and who comes when."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from fedbus._transport import Bus
from fedbus_local.stack import LocalStack
from fedbus_schemas.asks import Answer
from fedbus_schemas.events import RoundCompleted, RoundOpened

from tests.stacks import Federation, Json, Lines, federation
from tests.trainers import TINY

SOON_S = 1.5
"""A round's time where its deadline is what the test is about."""


@contextmanager
def slow_link(name: str) -> Iterator[asyncio.Event]:
    """Hold back what the client of this name submits until the event is set."""
    link_open, ask = asyncio.Event(), Bus.ask

    async def held(
        self: Bus, verb: str, content: bytes, trace_id: str = "", timeout_s: float | None = None
    ) -> Answer:
        if verb == "submit" and self._name == name:
            await link_open.wait()
        return await ask(self, verb, content, trace_id, timeout_s)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Bus, "ask", held)
        yield link_open


async def test_an_update_that_comes_after_the_target_is_told_late(
    stack: LocalStack, lines: Lines
) -> None:
    async with federation(stack, clients=4, online=False) as fed:
        with slow_link(fed.sites[0].name) as open_link:
            for site in fed.sites:
                site.come()
            await fed.online(4)
            fed.gate.close(fed.names[1:], 1)
            session = await fed.start(TINY, rounds=1, minimum=3, target=3, invited=4)
            story = fed.stories[session]
            await story.until(lambda: story.all("round.opened.v1"), "round 1 opens")
            [opened] = story.all("round.opened.v1")
            assert (len(opened.data["cohort"]), opened.data["target"]) == (4, 3)
            fed.gate.open()
            await fed.ended(session)
            open_link.set()
            await lines.until(f"{session} round 1.1: update came too late and was not counted", 1)
        [view] = await fed.rounds(session)
        assert (view["counted"], view["missing"], view["closed_by"]) == (3, 1, "target")
        await assert_explained(fed, view)
        await fed.assert_sound(session)


async def assert_explained(fed: Federation, view: Json) -> None:
    """The explanation tells who counted and fills the round's time."""
    told = await fed.ask("GET", f"/v1/sessions/{view['session']}/rounds/1/explain")
    standings = {one["name"]: one["standing"] for one in told["clients"]}
    assert [standings[name] for name in fed.names[1:]] == ["counted"] * 3
    assert standings[fed.sites[0].name] in ("late", "missing"), "it depends on whether it was sent"
    passed = sum(one["seconds"] for one in told["phases"])
    assert passed == pytest.approx(view["duration_s"], abs=0.1)


async def test_a_deadline_closes_a_round_that_has_its_minimum(stack: LocalStack) -> None:
    async with federation(stack, clients=3) as fed:
        fed.gate.close(fed.names[:1], 1)
        session = await fed.start(TINY, rounds=2, minimum=2, round_timeout_s=SOON_S, invited=3)
        story = fed.stories[session]
        await story.until(lambda: len(story.stored(1)) == 2, "two updates are stored")
        assert not story.all("round.closing.v1"), "the target is three"
        await story.until(lambda: story.of_round("round.completed.v1", 1), "round 1 completes")
        fed.gate.open()
        await fed.ended(session)
        first, second = await fed.rounds(session)
        assert (first["counted"], first["closed_by"], first["missing"]) == (2, "deadline", 1)
        assert second["counted"] >= 2
        await fed.assert_sound(session)


async def test_below_the_minimum_a_session_fails_and_says_why(
    stack: LocalStack, lines: Lines
) -> None:
    async with federation(stack, clients=3) as fed:
        fed.gate.close(fed.names[:1], 1)
        session = await fed.start(
            TINY, rounds=2, round_timeout_s=SOON_S, attempts_max=2, below_minimum="fail"
        )
        await fed.ended(session, "failed")
        story = fed.stories[session]
        failed = [(one.data["attempt"], one.data["valid"]) for one in story.all("round.failed.v1")]
        assert failed == [(1, 2), (2, 2)]
        assert story.all("session.failed.v1")[0].data["reason"] == "below_minimum"
        assert "2" in (await fed.show(session))["reason"]
        for attempt in (1, 2):
            text = f"{session} round 1.{attempt}: the attempt ended without a model"
            await lines.until(text, 2)
        await fed.assert_sound(session)


async def test_below_the_minimum_a_patient_session_rests_and_tries_again(
    stack: LocalStack,
) -> None:
    async with federation(stack, clients=3) as fed:
        fed.gate.close(fed.names[:1], 1)
        session = await fed.start(TINY, rounds=2, round_timeout_s=SOON_S, attempts_max=1)
        story = fed.stories[session]
        await story.until(lambda: story.all("session.waiting.v1"), "the session waits")
        assert (await fed.show(session))["phase"] in {"waiting", "running"}
        fed.gate.open()
        await fed.ended(session)
        assert story.all("round.failed.v1")
        await fed.assert_sound(session)


async def test_a_session_waits_for_its_clients_and_starts_when_they_come(
    stack: LocalStack,
) -> None:
    async with federation(stack, clients=3, online=False) as fed:
        session = await fed.start(TINY, rounds=2)
        story = fed.stories[session]
        await story.until(lambda: story.all("session.waiting.v1"), "the session waits")
        view = await fed.show(session)
        assert (view["phase"], view["round"]) == ("waiting", None)
        for site in fed.sites:
            site.come()
        await fed.ended(session)
        assert [one["cohort"] for one in await fed.rounds(session)] == [3, 3]
        await fed.assert_sound(session)


async def test_who_joins_late_is_in_the_next_round(stack: LocalStack, lines: Lines) -> None:
    async with federation(stack, clients=3, online=False) as fed:
        for site in fed.sites[:2]:
            site.come()
        fed.gate.close(fed.names[:1], 2)
        session = await fed.start(TINY, rounds=3, minimum=2)
        story = fed.stories[session]
        await story.until(lambda: story.stored(2), "an update of round 2 is stored")
        fed.sites[2].come()
        await lines.until(f"connected to project {fed.project} as {fed.sites[2].name}", 1)
        fed.gate.open()
        await fed.ended(session)
        events = await fed.assert_sound(session)
        cohorts = [len(event.cohort) for event in events if isinstance(event, RoundOpened)]
        counted = [len(event.counted) for event in events if isinstance(event, RoundCompleted)]
        assert cohorts == counted == [2, 2, 3]
