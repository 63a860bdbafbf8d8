"""Crash points: off without settings, refused without leave, named by the code that makes the call."""

import os
import signal
from datetime import UTC, datetime
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
from fedbus_runtime.connections import Connections
from fedbus_runtime.crash_points import armed
from fedbus_runtime.errors import SettingsFault
from fedbus_runtime.folded_log import FoldedLog
from fedbus_runtime.memory import MemoryWorld
from fedbus_runtime.memory_clock import ManualClock
from fedbus_runtime.settings import CrashSettings, ServiceSettings
from fedbus_schemas.streams import CONSUMERS, STREAMS

SUBJECT = "fl.p.evt.s"


class OwnSettings(ServiceSettings):
    """A service's settings."""


OwnSettings.__module__ = "fedbus_controller.settings"


async def ports() -> Connections:
    world = MemoryWorld(ManualClock(datetime(2026, 1, 1, tzinfo=UTC)))
    made = world.connections()
    await made.deliveries.prepare(STREAMS, CONSUMERS)
    return made


def settings(**crash: Any) -> OwnSettings:
    return OwnSettings(instance="c", crash=CrashSettings(**crash))


async def append(streams: Any) -> int:
    sequence: int = await streams.append(SUBJECT, b"{}")
    return sequence


async def append_to_log(streams: Any) -> object:
    log = FoldedLog[Any](streams, lambda _state, _data, _sequence: "state")
    return await log.append("p", "s", b"{}", 0)


def in_service(function: Any) -> Any:
    """Make this function one of the controller's module `perform`."""
    names = {**function.__globals__, "__name__": "fedbus_controller.perform"}
    return FunctionType(function.__code__, names)


async def test_without_settings_nothing_is_wrapped() -> None:
    given = await ports()
    assert armed(given, settings()) is given


async def test_is_refused_without_leave() -> None:
    with pytest.raises(SettingsFault, match="FEDBUS_CRASH__ALLOW"):
        armed(await ports(), settings(at="controller.perform.append.append:before"))


async def test_writes_down_what_is_passed(tmp_path: Path) -> None:
    record = tmp_path / "points.txt"
    given = armed(await ports(), settings(allow=True, record=record))
    assert await in_service(append_to_log)(given.streams) == "state"
    assert await in_service(append)(given.streams) == 2
    assert await in_service(append)(given.streams) == 3
    assert record.read_text().splitlines() == [
        "controller.perform.append_to_log.append:before",
        "controller.perform.append_to_log.append:after",
        "controller.perform.append.append:before",
        "controller.perform.append.append:after",
    ]


@pytest.mark.parametrize(("side", "stored"), [("before", 1), ("after", 2)])
async def test_dies_at_the_passing_that_is_asked_for(
    side: str, stored: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Killed(Exception):
        """Instead of the end of this process."""

    def kill(pid: int, number: int) -> None:
        assert (pid, number) == (os.getpid(), signal.SIGKILL)
        raise Killed

    monkeypatch.setattr(os, "kill", kill)
    point = f"controller.perform.append.append:{side}"
    given = armed(
        plain := await ports(), settings(allow=True, at=point, count=2, record=tmp_path / "p")
    )
    await in_service(append)(given.streams)
    with pytest.raises(Killed):
        await in_service(append)(given.streams)
    last = await plain.streams.last(next(one for one in STREAMS if one.name == "EVENTS"), SUBJECT)
    assert last is not None
    assert last.sequence == stored
    assert (tmp_path / "p").read_text().splitlines()[-1] == f"killed {point}"
