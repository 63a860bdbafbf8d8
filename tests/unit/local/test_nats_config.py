"""The generated configuration of nats-server: allow-lists only, and nothing of a stream to hear."""

from pathlib import Path

import pytest
from fedbus_local import accounts, identity
from fedbus_local.nats_config import Listeners, render
from fedbus_schemas import subjects
from fedbus_schemas.streams import STREAMS

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


def written(folder: Path) -> str:
    return render(LISTENERS, Path("/data/nats"), identity.ensure(folder))


def test_a_client_gets_its_own_subjects_by_its_key_and_no_others() -> None:
    may = accounts.CLIENT
    assert may.publish == ("fl.{{tag(project)}}.ask.{{subject()}}.*",)
    assert may.subscribe == ("fl.{{tag(project)}}.task.{{subject()}}.*", "_INBOX.{{subject()}}.>")
    assert not may.answers
    assert "name()" not in str(may)


def test_an_account_is_signed_anew_only_when_it_says_something_else(tmp_path: Path) -> None:
    """A later token goes before the one with the revocations, so none is written without need."""
    first = identity.ensure(tmp_path)
    assert identity.ensure(tmp_path) == first
    (tmp_path / "client.scope.nk").unlink()
    changed = [
        key
        for key, token in identity.ensure(tmp_path).accounts.items()
        if token != first.accounts[key]
    ]
    edge = (tmp_path / "edge.account").read_text().strip()
    assert changed == [edge]


def test_what_must_hold_of_the_server_is_there(tmp_path: Path) -> None:
    text = written(tmp_path)
    assert "sync_interval: always" in text
    assert "max_payload: 1048576" in text
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
