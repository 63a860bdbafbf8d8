"""Subjects, streams and consumers as one table: what is sent where is kept once, and by nobody's accident."""

import inspect
from collections.abc import Callable, Iterator
from itertools import combinations

import pytest
from fedbus_schemas import keys, subjects
from fedbus_schemas.codec import Unreadable, read
from fedbus_schemas.ids import SessionId
from fedbus_schemas.streams import (
    COMMANDS,
    CONSUMERS,
    EVENTS,
    INBOX,
    RESULTS,
    STREAMS,
    UPDATES,
    Consumer,
    Stream,
)
from fedbus_schemas.wire import Message

from tests.unit.schemas.conftest import load_tool

TOOL = load_tool()
DEVICE, CLIENT = "U" + "A" * 55, "c" + "a" * 16
SAMPLES: dict[str, object] = {
    "project": "default",
    "session": "s-1",
    "device": DEVICE,
    "client": CLIENT,
    "round_number": 3,
    "attempt": 1,
    "number": 7,
    "letter": 7,
    "kind": "finish",
    "verb": "submit",
    "code": "submit.late",
    "command": "k-1",
    "digest": "0" * 64,
    "stream": "INBOX",
    "subject": "fl.default.in.s-1.command",
}
CORE = {"notice", "ask", "task", "mint"}
"""Kinds of subjects that no stream keeps: requests, and what the bus republishes."""


class StopProbe(Message):
    """Anything that names a session."""

    session: SessionId


def builders() -> Iterator[tuple[str, Callable[..., object]]]:
    for name, function in inspect.getmembers(subjects, inspect.isfunction):
        if function.__module__ == subjects.__name__ and name not in ("token", "buried"):
            yield name, function


def built(function: Callable[..., object]) -> str:
    """Build a subject from samples; parameters with a wildcard as default get a sample as well."""
    names = inspect.signature(function).parameters
    subject = function(**{name: SAMPLES.get(name, "x") for name in names})
    assert isinstance(subject, str)
    return subject


def overlap(one: str, other: str) -> bool:
    """Whether there is a subject that both patterns cover."""
    ours, theirs = one.split("."), other.split(".")
    for a, b in zip(ours, theirs, strict=False):
        if ">" in (a, b):
            return True
        if a != b and "*" not in (a, b):
            return False
    return len(ours) == len(theirs)


def plain(destination: str) -> str:
    """Make a republish destination a pattern."""
    return ".".join("*" if "{{" in token else token for token in destination.split("."))


@pytest.mark.parametrize(("name", "function"), list(builders()), ids=lambda value: str(value)[:20])
def test_every_subject_lies_in_one_stream_or_in_none_on_purpose(
    name: str, function: Callable[..., object]
) -> None:
    subject = built(function)
    assert subject.startswith("fl.default."), "the project comes first"
    matching = [
        stream.name
        for stream in STREAMS
        if any(overlap(pattern, subject) for pattern in stream.subjects)
    ]
    kind = subjects.token(subject, 2)
    if kind in CORE or kind == "live":
        assert matching == []
    else:
        assert len(matching) == 1
        assert TOOL.stream_of(subject) == matching[0]


def test_no_two_streams_take_the_same_subject() -> None:
    for one, other in combinations(STREAMS, 2):
        for mine in one.subjects:
            for theirs in other.subjects:
                assert not overlap(mine, theirs), (one.name, other.name)


@pytest.mark.parametrize("consumer", CONSUMERS, ids=lambda one: one.name)
def test_no_consumer_covers_a_schedule(consumer: Consumer) -> None:
    """An ack would delete the deadline that lies there."""
    assert not overlap(consumer.filter, subjects.ALL_SCHEDULES)
    assert not overlap(consumer.filter, subjects.ALL_COMMAND_SCHEDULES)


@pytest.mark.parametrize("consumer", CONSUMERS, ids=lambda one: one.name)
def test_a_consumer_reads_what_its_stream_holds(consumer: Consumer) -> None:
    [stream] = [each for each in STREAMS if each.name == consumer.stream]
    assert any(TOOL.covers(pattern, consumer.filter) for pattern in stream.subjects)
    assert consumer.deliveries_max > 1
    assert consumer.pending_max > 0


def test_a_work_queue_gives_each_message_to_one_consumer() -> None:
    for one, other in combinations(CONSUMERS, 2):
        assert one.name != other.name
        if one.stream == other.stream:
            assert not overlap(one.filter, other.filter)


def test_fired_deadlines_arrive_where_the_controllers_listen() -> None:
    assert overlap(subjects.deadline("p", "s-1"), subjects.ALL_INPUTS)
    assert INBOX.schedules
    assert {subjects.ALL_INPUTS, subjects.ALL_SCHEDULES} <= set(INBOX.subjects)
    fired = subjects.command_input("p", "k-1", "timeout")
    assert overlap(fired, subjects.ALL_COMMAND_INPUTS)
    assert {subjects.ALL_COMMAND_INPUTS, subjects.ALL_COMMAND_SCHEDULES} <= set(INBOX.subjects)


@pytest.mark.parametrize(
    "stream", [each for each in STREAMS if each.republish], ids=lambda one: one.name
)
def test_what_is_republished_is_kept_by_no_stream(stream: Stream) -> None:
    """Or a message would be stored again and again."""
    assert stream.republish is not None
    source, destination = stream.republish
    assert any(overlap(source, pattern) for pattern in stream.subjects)
    for other in STREAMS:
        for pattern in other.subjects:
            assert not overlap(plain(destination), pattern), other.name
    wildcards = source.split(".").count("*") + source.endswith(">")
    assert destination.count("{{") + destination.endswith(">") == wildcards


def test_live_readers_listen_where_the_streams_republish() -> None:
    live = {
        "EVENTS": subjects.live_event("p", "s-1"),
        "UPDATES": subjects.live_update("p", "s-1"),
        "REGISTRY": subjects.live_record("p"),
        "TELEMETRY": subjects.live_telemetry("p"),
        "RECORDS": subjects.live_logged("p"),
        "DEVICES": subjects.live_device("p"),
        "MBOX": subjects.task("p", DEVICE, "s-1"),
        "COMMANDS": subjects.live_command("p", "k-1"),
        "RESULTS": subjects.live_result("p", "k-1"),
        "PROGRESS": subjects.live_progress("p", "k-1"),
    }
    for stream in STREAMS:
        if stream.republish is not None:
            assert overlap(plain(stream.republish[1]), live.pop(stream.name))
    assert live == {}


def test_nobody_listens_to_what_a_stream_takes() -> None:
    """A core subscriber would see appends that compare-and-set refused."""
    for listened in (
        subjects.live_event("*"),
        subjects.live_update("*"),
        subjects.live_record(),
        subjects.live_telemetry("*"),
        subjects.live_logged("*"),
        subjects.live_command("*"),
        subjects.live_result("*"),
        subjects.live_progress("*"),
        subjects.ALL_NOTICES,
        subjects.ALL_ASKS,
    ):
        for stream in STREAMS:
            assert not any(overlap(listened, pattern) for pattern in stream.subjects)


def test_what_must_never_be_lost_is_protected_and_on_disk() -> None:
    for stream in (EVENTS, UPDATES):
        assert stream.protected
        assert not stream.memory
        assert stream.age_max is None
    assert UPDATES.one_per_subject == "first"


def test_commands_and_their_results_are_kept_as_long_as_each_other() -> None:
    """Or a result could be stored a second time once the first has gone, beside a command still open."""
    for stream in (COMMANDS, RESULTS):
        assert stream.protected
        assert not stream.memory
    assert RESULTS.one_per_subject == "first"
    assert COMMANDS.age_max == RESULTS.age_max


def test_a_mailbox_of_a_command_is_none_of_a_session() -> None:
    assert subjects.command_mail("p", DEVICE, "s-1") != subjects.mail("p", DEVICE, "s-1")
    with pytest.raises(Unreadable):
        read(StopProbe, b'{"session": "cmd_s-1"}')


def test_names_of_streams_and_consumers_are_known_once() -> None:
    assert len({stream.name for stream in STREAMS}) == len(STREAMS)
    assert {consumer.stream for consumer in CONSUMERS} <= {stream.name for stream in STREAMS}


def test_a_dead_letter_keeps_its_project_and_its_subject() -> None:
    assert subjects.dead("INBOX", "fl.p.in.s-1.command") == "fl.p.dead.INBOX.in.s-1.command"


def test_tokens_are_counted_from_the_root() -> None:
    subject = subjects.update("p", "s-1", 3, CLIENT, 2)
    assert [subjects.token(subject, place) for place in range(1, 7)] == [
        "p",
        "upd",
        "s-1",
        "3",
        CLIENT,
        "2",
    ]


def test_a_key_begins_with_its_project_and_ends_with_its_hash() -> None:
    digest = "f" * 64
    made = {
        keys.model("p", digest),
        keys.update("p", CLIENT, digest),
        keys.included_set("p", digest),
        keys.partial("p", "s-1", 2, 1, digest),
    }
    assert len(made) == 4
    for key in made:
        assert key.startswith("p/")
        assert key.endswith(f"/{digest}")
    assert keys.update("p", CLIENT, digest) == f"p/updates/{CLIENT}/{digest}"
