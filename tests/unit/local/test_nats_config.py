"""The generated configuration of nats-server: allow-lists only, and nothing of a stream to hear."""

from pathlib import Path

import pytest
from fedbus_local import accounts
from fedbus_local.nats_config import Listeners, Member, render
from fedbus_schemas import subjects
from fedbus_schemas.streams import STREAMS

DEVICE = "U" + "A" * 55
OTHER = "U" + "B" * 55
LISTENERS = Listeners(host="127.0.0.1", port=4222, websocket_port=9222, monitor_port=8222)


def covers(pattern: str, subject: str) -> bool:
    """Whether every subject of `subject` (itself a pattern) matches `pattern`."""
    wanted, given = pattern.split("."), subject.split(".")
    for index, token in enumerate(wanted):
        if token == ">":
            return len(given) > index
        if index >= len(given) or given[index] == ">" or token not in {"*", given[index]}:
            return False
    return len(wanted) == len(given)


def written(members: list[Member]) -> str:
    return render(LISTENERS, Path("/data/nats"), {"controller": "UC", "api": "UA"}, members)


def test_each_client_gets_its_own_subjects_and_no_others() -> None:
    text = written([Member("default", DEVICE), Member("other", OTHER)])
    [line] = [each for each in text.splitlines() if f"nkey: {DEVICE}" in each]
    assert f'publish: {{ allow: ["fl.default.ask.{DEVICE}.*"] }}' in line
    assert f'allow: ["fl.default.task.{DEVICE}.*", "_INBOX.{DEVICE}.>"]' in line
    assert OTHER not in line
    assert "allow_responses" not in line


def test_what_must_hold_of_the_server_is_there() -> None:
    text = written([])
    assert "sync_interval: always" in text
    assert "max_payload: 1048576" in text
    assert "share: true" in text
    assert 'http: "127.0.0.1:8222"' in text
    assert "deny" not in text


@pytest.mark.parametrize("role", accounts.SERVICES)
def test_no_service_may_hear_a_stream_s_own_subject(role: str) -> None:
    may = accounts.SERVICES[role].subscribe
    for stream in STREAMS:
        for subject in stream.subjects:
            assert not any(covers(each, subject) for each in may), (role, subject)


def test_only_controllers_may_publish_decisions() -> None:
    decisions = (
        subjects.ALL_EVENTS,
        subjects.ALL_MAIL,
        subjects.ALL_SCHEDULES,
        subjects.ALL_HEADS,
        "fl.*.work.*.finish",
        "$JS.API.STREAM.UPDATE.EVENTS",
        "$JS.API.STREAM.DELETE.EVENTS",
    )
    for subject in decisions:
        able = [
            role
            for role, may in accounts.SERVICES.items()
            if any(covers(each, subject) for each in may.publish)
        ]
        assert able == ["controller"], subject


def test_every_stream_has_an_author() -> None:
    for stream in STREAMS:
        for subject in stream.subjects:
            concrete = subject.replace("*", "x").replace(">", "x")
            authors = [each for may in accounts.SERVICES.values() for each in may.publish]
            parts = [concrete, concrete.removesuffix(".x") + ".command"]
            parts += [f"fl.x.work.x.{kind}" for kind in ("fold", "finish") if ".work." in concrete]
            assert any(covers(each, part) for each in authors for part in parts), subject
