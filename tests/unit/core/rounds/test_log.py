"""Entries of the log: the chain, and that nothing is folded which is not understood."""

import json
from collections.abc import Callable
from datetime import datetime
from hashlib import sha256
from typing import Any

import pytest
from fedbus_core.rounds.log import LogBroken, fold, read_entry, seal
from fedbus_core.rounds.state import Session
from fedbus_schemas.codec import UnknownEvent, Unreadable
from fedbus_schemas.envelope import GENESIS, Entry
from fedbus_schemas.events import SessionPaused, SessionResumed

from tests.round_worlds import PROJECT, SESSION, START, RoundWorld

Change = Callable[[dict[str, Any]], object]


def world() -> RoundWorld:
    made = RoundWorld("abcd")
    made.start(rounds=2, minimum=2, target=3)
    made.store("abc")
    made.target()
    made.finish(bad="a")
    made.store("d")
    made.target()
    made.finish(bad="a")
    return made


def folded(log: list[bytes]) -> Session:
    state = None
    for place, data in enumerate(log, start=1):
        state = fold(state, data, place)
    assert state is not None
    return state


def changed(data: bytes, change: Change) -> bytes:
    entry = json.loads(data)
    change(entry)
    return json.dumps(entry).encode()


def test_folding_the_bytes_gives_the_state_again() -> None:
    made = world()
    assert folded(made.log) == made.state


def test_each_entry_names_the_stored_bytes_before_it() -> None:
    log = world().log
    entries = [read_entry(data)[0] for data in log]
    assert [each.number for each in entries] == list(range(1, len(log) + 1))
    assert entries[0].previous == GENESIS
    for before, entry in zip(log, entries[1:], strict=False):
        assert entry.previous == sha256(before).hexdigest()
    assert folded(log).head == sha256(log[-1]).hexdigest()


def test_bytes_written_otherwise_break_the_chain() -> None:
    """The hash is over the bytes as they lie there, not over what they mean."""
    log = world().log
    log[1] = changed(log[1], lambda entry: entry)
    with pytest.raises(LogBroken, match="does not continue the chain"):
        folded(log)


def test_a_gap_is_found() -> None:
    log = world().log
    with pytest.raises(LogBroken, match="entry 3 follows entry 1"):
        folded([log[0], *log[2:]])


def test_an_entry_twice_is_found() -> None:
    log = world().log
    with pytest.raises(LogBroken, match="entry 1 follows entry 1"):
        folded([log[0], log[0]])


def test_a_log_begins_at_its_beginning() -> None:
    log = world().log
    with pytest.raises(LogBroken, match="follows entry 0"):
        folded(log[1:])


def test_a_log_begins_with_the_start_of_the_session() -> None:
    data = seal(None, PROJECT, SESSION, [SessionPaused()], "c", START)
    with pytest.raises(LogBroken, match="does not begin with its start"):
        fold(None, data, 1)


def test_an_unknown_event_type_stops_loudly() -> None:
    log = world().log
    with pytest.raises(UnknownEvent, match=r"round\.opened\.v9.*upgrade"):
        folded([changed(log[0], lambda entry: entry["events"][1].update(type="round.opened.v9"))])


@pytest.mark.parametrize(
    "change",
    [
        lambda entry: entry.pop("number"),
        lambda entry: entry.update(number=0),
        lambda entry: entry.update(previous="x"),
        lambda entry: entry.update(events=[]),
        lambda entry: entry["events"][0].update(specversion="2.0"),
        lambda entry: entry["events"][0].update(traceparent="00-1-1-01"),
    ],
    ids=["no number", "number 0", "no hash", "no events", "another CloudEvents", "no trace"],
)
def test_an_entry_of_another_form_cannot_be_read(change: Change) -> None:
    with pytest.raises(LogBroken, match="cannot be read"):
        read_entry(changed(world().log[0], change))


@pytest.mark.parametrize("data", [b"", b"{", b"null", b"[]", b"\xff", b"{}"])
def test_bytes_that_are_no_entry_cannot_be_read(data: bytes) -> None:
    with pytest.raises(LogBroken):
        fold(None, data, 1)


def test_an_event_of_another_form_is_unreadable() -> None:
    data = changed(world().log[0], lambda entry: entry["events"][1]["data"].pop("cohort"))
    with pytest.raises(Unreadable, match=r"round\.opened\.v1: cohort"):
        fold(None, data, 1)


def test_fields_of_a_newer_version_are_left_out() -> None:
    log = world().log

    def newer(entry: dict[str, Any]) -> None:
        entry["reserved"] = 1
        entry["events"][0]["dataschema"] = "x"
        entry["events"][1]["data"]["reserved"] = 1

    state = fold(None, changed(log[0], newer), 1)
    assert state.round is not None
    assert state.round == folded(log[:1]).round


def test_an_entry_is_valid_cloud_events() -> None:
    """CloudEvents 1.0: the required attributes, a unique id for the source, RFC 3339 time."""
    ids = set()
    for data in world().log:
        for event in json.loads(data)["events"]:
            assert event["specversion"] == "1.0"
            for name in ("id", "source", "type", "subject"):
                assert isinstance(event[name], str)
                assert event[name]
            assert datetime.fromisoformat(event["time"]).tzinfo is not None
            assert event["datacontenttype"] == "application/json"
            assert all(name.isalnum() and name.islower() for name in event)
            assert None not in event["data"].values()
            ids.add((event["source"], event["id"]))
    assert len(ids) == sum(len(json.loads(data)["events"]) for data in world().log)


def test_events_of_a_round_carry_its_trace_and_others_none() -> None:
    made = world()
    entries = [read_entry(data)[0] for data in made.log]
    opening = entries[0].events
    assert opening[0].traceparent is None
    first = opening[1].data["trace_id"]
    assert opening[1].traceparent == f"00-{first}-{first[:16]}-01"
    assert {event.traceparent for entry in entries[1:-1] for event in entry.events} == {
        opening[1].traceparent
    }
    completed, opened = entries[-1].events
    second = opened.data["trace_id"]
    assert completed.traceparent == opening[1].traceparent
    assert opened.traceparent == f"00-{second}-{second[:16]}-01"
    assert second != first


def test_the_time_of_the_cause_is_the_time_of_the_events() -> None:
    made = world()
    made.later(5)
    data = seal(made.state, PROJECT, SESSION, [SessionPaused(), SessionResumed()], "c", made.now)
    entry = Entry.model_validate_json(data)
    assert [event.time for event in entry.events] == [made.now] * 2
    assert [event.id for event in entry.events] == [
        f"{SESSION}/{len(made.log) + 1}/{place}" for place in (1, 2)
    ]
