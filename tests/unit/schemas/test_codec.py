"""Bytes to inputs, work items and events; whatever is not known stops loudly."""

import json
from datetime import UTC, datetime
from typing import get_args

import pytest
from fedbus_schemas import signing
from fedbus_schemas.codec import (
    DETAIL_MAX,
    UnknownEvent,
    Unreadable,
    digest,
    read,
    read_command_events,
    read_command_input,
    read_events,
    read_input,
    read_work,
)
from fedbus_schemas.command_events import COMMAND_EVENT_TYPES, AnyCommandEvent, CommandEntry
from fedbus_schemas.commands import CommandInput, RunCommand, StepCommand
from fedbus_schemas.envelope import GENESIS, CloudEvent, Entry
from fedbus_schemas.events import EVENT_TYPES, AnyEvent, Event, SessionPaused
from fedbus_schemas.inputs import ClientsChanged, DeadlineFired, Input, TargetReached
from fedbus_schemas.sessions import ExtendSession, PauseSession, ResumeSession, StopSession
from fedbus_schemas.tasks import CommandMail, Mail, SignedMail
from fedbus_schemas.work import FoldItem, WorkItem
from pydantic import ValidationError

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def entry(kind: str, data: dict[str, object]) -> Entry:
    event = CloudEvent(id="s/1/1", source="/x", type=kind, subject="s-1", time=NOW, data=data)
    return Entry(project="p", session="s-1", number=1, previous=GENESIS, cause="c", events=(event,))


def test_every_event_is_in_the_table_once() -> None:
    assert set(EVENT_TYPES.values()) == set(get_args(AnyEvent))
    assert all(name == kind.TYPE for name, kind in EVENT_TYPES.items())
    assert set(COMMAND_EVENT_TYPES.values()) == set(get_args(AnyCommandEvent))
    assert all(name == kind.TYPE for name, kind in COMMAND_EVENT_TYPES.items())
    every = {*EVENT_TYPES.values(), *COMMAND_EVENT_TYPES.values()}
    assert set(Event.__subclasses__()) == every
    assert not EVENT_TYPES.keys() & COMMAND_EVENT_TYPES.keys()


@pytest.mark.parametrize("kind", [*EVENT_TYPES, *COMMAND_EVENT_TYPES])
def test_an_event_type_is_in_the_past_tense_and_versioned(kind: str) -> None:
    noun, verb, version = kind.split(".")
    assert noun in ("session", "round", "command")
    assert verb.endswith(("ed", "ing")), "the one that lasts says so: closing, waiting"
    assert version == "v1"


@pytest.mark.parametrize("union", [Input, CommandInput, WorkItem], ids=["input", "command", "work"])
def test_kinds_tell_apart(union: object) -> None:
    kinds = [each.model_fields["kind"].default for each in get_args(get_args(union)[0])]
    assert len(kinds) == len(set(kinds))


@pytest.mark.parametrize(
    "given",
    [
        PauseSession(),
        ResumeSession(),
        StopSession(reason="x"),
        ExtendSession(rounds=3),
        DeadlineFired(round=1, attempt=1, due=NOW),
        TargetReached(round=1, attempt=1),
        ClientsChanged(),
    ],
    ids=lambda given: given.kind,
)
def test_an_input_there_and_back(given: Input) -> None:
    assert read_input(given.to_bytes()) == given


def test_a_work_item_there_and_back() -> None:
    item = FoldItem(project="p", session="s-1", round=1, attempt=1, clients=("c" + "a" * 16,))
    assert read_work(item.to_bytes()) == item


@pytest.mark.parametrize("data", [b"", b"{}", b'{"kind": "tomorrow"}', b"[1]", b"\xff"])
def test_what_is_not_known_is_unreadable(data: bytes) -> None:
    with pytest.raises(Unreadable):
        read_input(data)
    with pytest.raises(Unreadable):
        read_work(data)


def test_an_unknown_event_is_not_skipped() -> None:
    assert read_events(entry("session.paused.v1", {})) == (SessionPaused(),)
    with pytest.raises(UnknownEvent, match=r"session\.paused\.v2.*upgrade"):
        read_events(entry("session.paused.v2", {}))


def test_a_known_event_of_another_form_is_not_skipped() -> None:
    with pytest.raises(Unreadable, match=r"session\.extended\.v1: rounds"):
        read_events(entry("session.extended.v1", {}))


def test_what_is_said_of_a_wrong_field_has_a_limit() -> None:
    data = json.dumps({"kind": "extend", "rounds": 1, "x" * 10_000: 1, "session": {}}).encode()
    assert read_input(data) == ExtendSession(rounds=1)
    with pytest.raises(Unreadable) as told:
        read(Entry, json.dumps({"y" * 10_000: 1}))
    assert len(str(told.value)) <= DETAIL_MAX


def test_a_digest_is_the_sha_256() -> None:
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert digest(b"") == empty


def test_no_signature_fits_two_purposes() -> None:
    domains = [signing.MANIFEST, signing.MAIL, signing.HEAD, signing.HELLO]
    assert len(set(domains)) == 4
    for domain in domains:
        assert domain.endswith(b"\0")
        assert domain.count(b"\0") == 1
        assert signing.message(domain, "é") == domain + b"\xc3\xa9"


@pytest.mark.parametrize("size", [32, 64])
def test_keys_and_signatures_are_base64url_without_padding(size: int) -> None:
    raw = bytes([251, 255] * (size // 2))
    text = signing.encode(raw)
    assert "=" not in text
    assert "-" in text or "_" in text
    assert signing.decode(text) == raw


def test_commands_have_a_union_and_a_log_of_their_own() -> None:
    step = read_command_input(StepCommand().to_bytes())
    assert isinstance(step, StepCommand)
    with pytest.raises(Unreadable):
        read_input(RunCommand(command="k-1", task="inference").to_bytes())
    sent = entry("session.paused.v1", {})
    other = CommandEntry(
        project="p", command="k-1", number=1, previous=GENESIS, cause="c", events=sent.events
    )
    with pytest.raises(UnknownEvent):
        read_command_events(other)


def test_either_mail_is_known_by_what_it_names() -> None:
    device, client, key = "U" + "A" * 55, "c" + "a" * 16, "a" * 43
    common = {"project": "p", "number": 1, "device": device, "client": client}
    of_session = Mail.model_validate({**common, "session": "s-1"})
    of_command = CommandMail.model_validate({**common, "command": "k-1"})
    for mail in (of_session, of_command):
        text = mail.to_bytes().decode()
        signed = SignedMail(mail=text, key=key, signature="b" * 86)
        assert signed.either() == mail
    for text in ("", "[]", "{}", '"command"', '{"command": 1}'):
        with pytest.raises(ValidationError):
            SignedMail(mail=text, key=key, signature="b" * 86).either()
