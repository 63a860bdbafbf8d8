"""Spans as the services make them, and the port that takes them."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Protocol, TypeAlias

from fedbus_schemas.ids import ClientId

Value: TypeAlias = str | int | float | bool | tuple[str, ...]
Attributes: TypeAlias = dict[str, Value]
Link: TypeAlias = tuple[str, str]
"""Trace and span that something else came from."""


class Kind(Enum):
    """The part that a span plays, as OpenTelemetry names them."""

    INTERNAL = auto()
    SERVER = auto()
    CLIENT = auto()
    PRODUCER = auto()
    CONSUMER = auto()


@dataclass(slots=True)
class Span:
    """A piece of work, times in Unix nanoseconds. `error`: the code of what went wrong.

    `client`: it was done by this client, and not by the service that shows it.
    """

    name: str
    trace: str
    parent: str | None
    start: int
    end: int = 0
    span: str = field(default_factory=lambda: secrets.token_hex(8))
    kind: Kind = Kind.INTERNAL
    attributes: Attributes = field(default_factory=dict)
    links: Sequence[Link] = ()
    events: list[tuple[str, int, Attributes]] = field(default_factory=list)
    error: str | None = None
    client: ClientId | None = None


class Tracing(Protocol):
    """Takes spans. `otlp.py` is the real one."""

    def show(self, spans: Sequence[Span]) -> None:
        """Hand over spans of one trace; they are sent later, or dropped when nobody takes them."""

    async def deliver(self, spans: Sequence[Span]) -> None:
        """Send spans and return when they are there. Raises `TelemetryAway`."""
