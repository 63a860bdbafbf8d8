"""The live view's picture: what the events of a log make of it."""

from datetime import UTC, datetime

from fedbus.operator.watching import Picture, sentence
from fedbus_schemas.sessions import SessionSettings
from fedbus_schemas.views import LoggedEvent, SessionView
from rich.console import Console

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
DIGEST = "0" * 64


def event(kind: str, **data: object) -> LoggedEvent:
    return LoggedEvent(session="s-1", number=1, sequence=1, time=NOW, type=kind, data=data)


def test_an_extension_that_the_view_knows_already_does_not_count_twice() -> None:
    view = SessionView(
        session="s-1", project="default", name="", phase="running", rounds_completed=3, rounds_total=5,
        model=DIGEST, initial_model=DIGEST, settings=SessionSettings(rounds=3), created=NOW,
        updated=NOW, number=9,
    )  # fmt: skip
    picture = Picture(view)
    picture.take(event("session.extended.v1", rounds=5))
    console = Console(width=100, record=True, force_terminal=False)
    console.print(picture.draw())
    assert "/5" in console.export_text()
    picture.take(event("session.extended.v1", rounds=7))
    console.print(picture.draw())
    assert "/7" in console.export_text()
    assert picture.phase == "extended"
    assert sentence(event("round.closing.v1", round=2, reason="target")) == (
        "12:00:00 round 2 closing: target"
    )
