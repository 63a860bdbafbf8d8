"""Every message: there and back without a loss, unknown fields left out, frozen, strict about numbers."""

import json
from typing import Any

import pytest
from fedbus_schemas.codec import Unreadable, read
from fedbus_schemas.commands import CommandAnswer, RunCommand
from fedbus_schemas.sessions import SessionSettings
from fedbus_schemas.updates import Manifest, ValidationReport
from fedbus_schemas.views import NewSession
from fedbus_schemas.wire import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.json_values import values
from tests.unit.schemas.conftest import load_tool

TOOL = load_tool()
MESSAGES: list[type[Message]] = TOOL.messages()
STRICT = {"SessionSettings", "NumbersSettings", "ServerFunctions", "ClientQuery", "Condition"}
"""What a person writes: a typo must not pass silently."""
RULED = {"SessionSettings", "ClientQuery", "Condition", "CommandAnswer", "RunCommand"}
"""Messages whose fields have to go together."""


def name(kind: type[Message]) -> str:
    return kind.__name__


@pytest.mark.parametrize("kind", MESSAGES, ids=name)
@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)
@given(data=st.data())
def test_there_and_back(kind: type[Message], data: st.DataObject) -> None:
    content = data.draw(values(TOOL.schema(kind)))
    try:
        message = read(kind, json.dumps(content))
    except Unreadable:
        assert name(kind) in RULED
        return
    sent = message.to_bytes()
    again = read(kind, sent)
    assert again == message
    assert again.to_bytes() == sent
    assert b": null" not in sent
    assert None not in json.loads(sent).values()


@pytest.mark.parametrize("kind", MESSAGES, ids=name)
@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_fields_of_a_newer_version(kind: type[Message], data: st.DataObject) -> None:
    content: dict[str, Any] = data.draw(values(TOOL.schema(kind)))
    try:
        message = read(kind, json.dumps(content))
    except Unreadable:
        return
    newer = json.dumps(content | {"a field of tomorrow": {"x": [1]}})
    if name(kind) in STRICT:
        with pytest.raises(Unreadable, match="a field of tomorrow"):
            read(kind, newer)
    else:
        assert read(kind, newer) == message


@pytest.mark.parametrize("kind", MESSAGES, ids=name)
def test_every_message_says_what_it_is_for(kind: type[Message]) -> None:
    assert kind.__doc__
    assert kind.__doc__ != Message.__doc__


@pytest.mark.parametrize("kind", MESSAGES, ids=name)
def test_a_message_is_never_changed(kind: type[Message]) -> None:
    assert kind.model_config["frozen"]
    assert not kind.model_config["allow_inf_nan"]


@pytest.mark.parametrize("kind", MESSAGES, ids=name)
def test_bytes_that_are_none_are_unreadable(kind: type[Message]) -> None:
    for data in (b"", b"{", b"[]", b"null", b"1", b'"x"', b"\xff\xfe", b'{"a": "\xed\xa0\x80"}'):
        with pytest.raises(Unreadable):
            read(kind, data)


def manifest(**changes: object) -> bytes:
    content: dict[str, object] = {
        "project": "default",
        "session": "s-1",
        "round": 1,
        "attempt": 1,
        "client": "c" + "a" * 16,
        "base": "0" * 64,
        "update": {"digest": "1" * 64, "size": 1},
        "weight": 1,
    }
    return json.dumps(content | changes).encode()


@pytest.mark.parametrize(
    "changes",
    [
        {"weight": -1},
        {"weight": 1.5},
        {"weight": "5x"},
        {"round": 0},
        {"round": 1_000_001},
        {"attempt": 0},
        {"session": "a.b"},
        {"session": "*"},
        {"session": ">"},
        {"session": "a b"},
        {"session": "s"},
        {"project": "p.evt"},
        {"client": "c" + "A" * 16},
        {"client": "c" + "a" * 16 + "\n"},
        {"base": "0" * 63},
        {"base": "G" * 64},
        {"update": {"digest": "1" * 64, "size": -1}},
        {"metrics": {"loss": float("nan")}},
        {"metrics": {"loss": float("inf")}},
        {"metrics": {"n" * 129: 1.0}},
        {"metrics": {str(number): 1.0 for number in range(65)}},
        {"timings": {"train_s": -1.0}},
    ],
    ids=lambda changes: json.dumps(changes)[:40],
)
def test_what_a_manifest_may_not_say(changes: dict[str, object]) -> None:
    assert read(Manifest, manifest())
    with pytest.raises(Unreadable):
        read(Manifest, manifest(**changes))


def test_a_refused_field_is_named_without_what_was_sent() -> None:
    with pytest.raises(Unreadable) as told:
        read(Manifest, manifest(session="secret value"))
    assert str(told.value).startswith("session:")
    assert "secret value" not in str(told.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"target": 3, "invited": 2},
        {"minimum": 3, "target": 2},
        {"minimum": 3, "invited": 2},
        {"numbers": {"cohort_bits": 2}, "invited": 5},
        {"numbers": {"cohort_bits": 10}},
        {"rouds": 3},
        {"numbers": {"weigth_bits": 3}},
        {"round_timeout_s": 0},
        {"grace_s": -1},
        {"seed": 2**63},
        {"inline_bytes_max": 65_537},
    ],
    ids=str,
)
def test_settings_that_do_not_go_together(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SessionSettings.model_validate(wrong)
    with pytest.raises(ValidationError):
        NewSession.model_validate(wrong | {"model": "0" * 64})


def test_settings_keep_the_names_that_people_write() -> None:
    asked = SessionSettings.model_validate({"validate": False})
    assert not asked.validate_models
    assert b'"validate":false' in asked.to_bytes()


def test_a_report_has_a_weight_that_can_be_added_up() -> None:
    report = {"session": "s-1", "round": 1, "model": "0" * 64, "metrics": {}}
    assert read(ValidationReport, json.dumps(report | {"weight": 2**63 - 1}))
    for weight in (2**63, 10**400, -1):
        with pytest.raises(Unreadable, match="weight"):
            read(ValidationReport, json.dumps(report | {"weight": weight}))


def run(**changes: object) -> bytes:
    return json.dumps({"command": "k-1", "task": "inference"} | changes).encode()


@pytest.mark.parametrize(
    "changes",
    [
        {"command": "k.1"},
        {"command": "k"},
        {"task": ""},
        {"task": "Inference"},
        {"task": "custom:"},
        {"task": "custom:.hidden"},
        {"task": "custom:a b"},
        {"task": "custom:" + "a" * 65},
        {"parameters": []},
        {"parameters": {"p": float("nan")}},
        {"parameters": {"p": "a" * 8192}},
        {"parameters": {"p": "\u00e4" * 4090}},
        {"clients": ["site-1"]},
        {"clients": {"ids": ["site-1"] * 2_001}},
        {"clients": {"name": "site-1"}},
        {"timeout_s": 0},
        {"timeout_s": 8 * 86_400},
        {"correlation": ""},
        {"parent": "*"},
    ],
    ids=lambda changes: json.dumps(changes)[:40],
)
def test_what_a_command_may_not_be(changes: dict[str, object]) -> None:
    assert read(RunCommand, run())
    assert read(RunCommand, run(parameters={"deep": [{"a": None}], "n": 1e300}))
    with pytest.raises(Unreadable):
        read(RunCommand, run(**changes))


def test_parameters_arrive_as_they_were_given() -> None:
    given = {"nothing": None, "list": [None, 1, "x"], "inner": {"nothing": None}}
    sent = read(RunCommand, run(parameters=given)).to_bytes()
    assert read(RunCommand, sent).parameters == given


def test_parameters_nested_beyond_all_reason_are_unreadable() -> None:
    text = '{"command": "k-1", "task": "inference", "parameters": {"p": %s}}'
    with pytest.raises(Unreadable):
        read(RunCommand, text % ("[" * 4_000 + "]" * 4_000))


def answer(**changes: object) -> bytes:
    return json.dumps({"command": "k-1", "outcome": "completed"} | changes).encode()


@pytest.mark.parametrize(
    "changes",
    [
        {"value": ""},
        {"value": "{"},
        {"value": "NaN"},
        {"value": '"' + "a" * 16_384 + '"'},
        {"value": "[" * 8_000 + "]" * 8_000},
        {"value": "1", "blob": {"digest": "0" * 64, "size": 1}},
        {"blob": {"digest": "0" * 64, "size": 16 * 1024 * 1024 + 1}},
        {"outcome": "failed", "value": "1"},
        {"outcome": "refused", "blob": {"digest": "0" * 64, "size": 1}},
        {"outcome": "sent"},
        {"duration_s": -1},
    ],
    ids=lambda changes: json.dumps(changes)[:40],
)
def test_what_an_answer_may_not_say(changes: dict[str, object]) -> None:
    for value in ("null", "1", '{"a": [1.5, "b"]}'):
        assert read(CommandAnswer, answer(value=value))
    with pytest.raises(Unreadable):
        read(CommandAnswer, answer(**changes))
