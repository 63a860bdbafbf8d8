"""Bytes to messages and back. Unknown fields are left out, an unknown event type is refused."""

import hashlib
from collections.abc import Mapping
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from fedbus_schemas.command_events import (
    COMMAND_EVENT_TYPES,
    AnyCommandEvent,
    CommandEntry,
)
from fedbus_schemas.commands import CommandInput
from fedbus_schemas.envelope import CloudEvent, Entry
from fedbus_schemas.events import EVENT_TYPES, AnyEvent, Event
from fedbus_schemas.inputs import Input
from fedbus_schemas.wire import Message
from fedbus_schemas.work import FinishItem, FoldItem, RecountItem, WorkItem

DETAIL_MAX = 400

M = TypeVar("M", bound=Message)
E = TypeVar("E", bound=Event)


class Unreadable(ValueError):
    """The bytes are not a message of the expected type."""


class UnknownEvent(Unreadable):
    """An event of a type that this version does not know: stop, do not skip it."""


_INPUT: TypeAdapter[Input] = TypeAdapter(Input)
_COMMAND_INPUT: TypeAdapter[CommandInput] = TypeAdapter(CommandInput)
_WORK: TypeAdapter[FoldItem | FinishItem | RecountItem] = TypeAdapter(WorkItem)


def read(kind: type[M], data: bytes | str) -> M:
    """Read a message of one type. Raises `Unreadable` with what is wrong, whatever the bytes."""
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        raise Unreadable(describe(error)) from error


def read_input(data: bytes) -> Input:
    """Read an input of a controller. Raises `Unreadable`."""
    try:
        return _INPUT.validate_json(data)
    except ValidationError as error:
        raise Unreadable(describe(error)) from error


def read_command_input(data: bytes) -> CommandInput:
    """Read what a controller is told about a command. Raises `Unreadable`."""
    try:
        return _COMMAND_INPUT.validate_json(data)
    except ValidationError as error:
        raise Unreadable(describe(error)) from error


def read_work(data: bytes) -> FoldItem | FinishItem | RecountItem:
    """Read a work item. Raises `Unreadable`."""
    try:
        return _WORK.validate_json(data)
    except ValidationError as error:
        raise Unreadable(describe(error)) from error


def read_events(entry: Entry) -> tuple[AnyEvent, ...]:
    """Read the events of an entry. Raises `UnknownEvent` for a type that this version does not know."""
    return tuple(_event(event, EVENT_TYPES) for event in entry.events)


def read_command_events(entry: CommandEntry) -> tuple[AnyCommandEvent, ...]:
    """Read the events of a command's entry. Raises as `read_events` does."""
    return tuple(_event(event, COMMAND_EVENT_TYPES) for event in entry.events)


def _event(event: CloudEvent, kinds: Mapping[str, type[E]]) -> E:
    kind = kinds.get(event.type)
    if kind is None:
        raise UnknownEvent(f"event type {event.type!r} is unknown to this version; upgrade it")
    try:
        return kind.model_validate(event.data)
    except ValidationError as error:
        raise Unreadable(f"{event.type}: {describe(error)}") from error


def digest(data: bytes | bytearray | memoryview) -> str:
    """Give the SHA-256 of stored bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def describe(error: ValidationError) -> str:
    """Say in one line which field is wrong and how, without repeating what was sent."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "message"
    return f"{place}: {first['msg']}"[:DETAIL_MAX]
