"""Ended sessions are archived by age and number."""

from datetime import UTC, datetime, timedelta

import pytest
from fedbus_controller.archiving import Archiving, old
from fedbus_runtime.retention import Retention
from fedbus_schemas.sessions import StopSession
from fedbus_schemas.streams import ACTS, EVENTS, NOTES

from tests.unit.controller.test_handlers import Controller

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, []),
        ({"archive_after": 10 * DAY}, ["s-20", "s-10"]),
        ({"archive_after": None}, []),
        ({"ended_sessions_max": 1}, ["s-10", "s-20"]),
        ({"ended_sessions_max": 0}, ["s-1", "s-10", "s-20"]),
        ({"ended_sessions_max": 2, "archive_after": 15 * DAY}, ["s-20"]),
    ],
)
def test_what_is_old_enough_or_one_too_many_goes(settings, wanted) -> None:
    ended = [(NOW - days * DAY, f"s-{days}") for days in (1, 20, 10)]
    found = list(old(ended, NOW, Retention.model_validate(settings)))
    assert sorted(found) == sorted(wanted)


def test_streams_have_the_ages_of_the_settings() -> None:
    retention = Retention(notes_age=DAY)
    assert retention.of(NOTES).age_max == DAY
    assert retention.of(ACTS) == ACTS
    assert retention.of(EVENTS) == EVENTS, "the log stays"


async def test_archives_what_has_ended_and_nothing_that_runs() -> None:
    controller = Controller()
    retention = Retention(archive_after=timedelta(seconds=1))
    archiving = Archiving(controller.streams, controller.sessions, retention)

    async def look() -> list[str]:
        controller.clock.advance(2)
        await controller.sessions.read()
        await archiving.look(controller.clock.now(), controller.handlers.on_old)
        return await controller.types()

    await controller.begin("ab", rounds=2)
    assert await look() == ["session.started.v1", "round.opened.v1"]
    await controller.input(StopSession(reason="enough"))
    assert (await look())[2:] == ["session.stopped.v1", "session.archived.v1"]
    assert len(await look()) == 4, "once"
