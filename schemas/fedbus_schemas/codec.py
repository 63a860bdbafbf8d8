"""Bytes to messages and back. Unknown fields are left out, an unknown event type is refused."""

import hashlib
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from fedbus_schemas.envelope import Entry
from fedbus_schemas.events import EVENT_TYPES, AnyEvent
from fedbus_schemas.inputs import Input
from fedbus_schemas.wire import Message
from fedbus_schemas.work import FinishItem, FoldItem, RecountItem, WorkItem

DETAIL_MAX = 400

M = TypeVar("M", bound=Message)


class Unreadable(ValueError):
    """The bytes are not a message of the expected type."""


class UnknownEvent(Unreadable):
    """An event of a type that this version does not know: stop, do not skip it."""


_INPUT: TypeAdapter[Input] = TypeAdapter(Input)
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


def read_work(data: bytes) -> FoldItem | FinishItem | RecountItem:
    """Read a work item. Raises `Unreadable`."""
    try:
        return _WORK.validate_json(data)
    except ValidationError as error:
        raise Unreadable(describe(error)) from error


def read_events(entry: Entry) -> tuple[AnyEvent, ...]:
    """Read the events of an entry. Raises `UnknownEvent` for a type that this version does not know."""
    events = []
    for event in entry.events:
        kind = EVENT_TYPES.get(event.type)
        if kind is None:
            raise UnknownEvent(f"event type {event.type!r} is unknown to this version; upgrade it")
        try:
            events.append(kind.model_validate(event.data))
        except ValidationError as error:
            raise Unreadable(f"{event.type}: {describe(error)}") from error
    return tuple(events)


def digest(data: bytes | bytearray | memoryview) -> str:
    """Give the SHA-256 of stored bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def describe(error: ValidationError) -> str:
    """Say in one line which field is wrong and how, without repeating what was sent."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "message"
    return f"{place}: {first['msg']}"[:DETAIL_MAX]
