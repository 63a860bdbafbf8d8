"""Records and their marks."""

import json

import pytest
from fedbus_schemas.codec import Unreadable, read
from fedbus_schemas.records import (
    BATCH_BYTES_MAX,
    MARKS_MAX,
    PAYLOAD_BYTES_MAX,
    PAYLOAD_DEPTH_MAX,
    Mark,
    RecordBatch,
    TelemetryRecord,
    has_batch,
    with_batch,
)

TIME = "2026-01-02T03:04:05Z"


def telemetry(payload: str) -> TelemetryRecord:
    text = (
        f'{{"kind": "telemetry", "number": 1, "time": "{TIME}", "key": "k", "payload": {payload}}}'
    )
    return read(TelemetryRecord, text)


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize("payload", ["1", '"x"', '{"a": [null, {"b": false}]}', nested(31)])
def test_a_payload_is_any_json(payload: str) -> None:
    assert telemetry(payload).payload == json.loads(payload)


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        ("null", "not null"),
        ("NaN", "no NaN"),
        ('{"a": [1e999]}', "no NaN and no infinity"),
        (nested(PAYLOAD_DEPTH_MAX + 1), "levels deep"),
        (nested(5000), "recursion limit"),
    ],
)
def test_a_payload_that_is_not(payload: str, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        telemetry(payload)


def test_marks_remember_the_streams_heard_last() -> None:
    marks: tuple[Mark, ...] = ()
    streams = [letter * 16 for letter in "abcdefghij"]
    for number, stream in enumerate(streams, 1):
        assert not has_batch(marks, stream, 1)
        marks = with_batch(marks, stream, number)
        assert len(marks) <= MARKS_MAX
    assert not has_batch(marks, "a" * 16, 1)
    assert has_batch(marks, "j" * 16, 10)
    assert has_batch(marks, "j" * 16, 9)
    assert not has_batch(marks, "j" * 16, 11)
    again = with_batch(marks, "c" * 16, 4)
    assert len(again) == MARKS_MAX
    assert has_batch(again, "c" * 16, 4)


def test_a_batch_can_carry_the_largest_payload() -> None:
    assert PAYLOAD_BYTES_MAX * 2 < BATCH_BYTES_MAX


def test_a_batch_says_what_each_record_is() -> None:
    with pytest.raises(Unreadable, match="kind"):
        read(RecordBatch, f'{{"stream": "{"a" * 16}", "batch": 1, "records": [{{"number": 1}}]}}')
