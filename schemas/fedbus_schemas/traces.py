"""A round's trace on the bus: its ids, the header that carries it, and the spans that a client reports.

Every id that others refer to is derived from the round, so a service that starts again, or takes another's
place, goes on in the same tree. Spans are shown, never decided on.
"""

import hashlib
import re
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from fedbus_schemas.ids import AttemptNumber, ProjectId, RoundNumber, SessionId
from fedbus_schemas.wire import Message

TRACEPARENT = "traceparent"
"""The header of W3C Trace Context."""
CLIENT_SPANS = "Client-Spans"
"""The header in which a client reports its spans, as JSON (`ClientSpans`), with what it asks anyway."""
CLIENT_SPANS_MAX = 8
CLIENT_SPANS_BYTES_MAX = 2048

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")


def trace_id(
    project: ProjectId, session: SessionId, round_number: RoundNumber, attempt: AttemptNumber
) -> str:
    """Give the id of the one trace that shows an attempt: derived, so that whoever restarts goes on in it."""
    name = f"trace/{project}/{session}/{round_number}/{attempt}"
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def root_span(trace: str) -> str:
    """Give the id of the span that is the whole attempt."""
    return trace[:16]


def span_id(trace: str, name: str) -> str:
    """Give the id of a span that others refer to before it is there."""
    return hashlib.sha256(f"span/{trace}/{name}".encode()).hexdigest()[:16]


def traceparent(trace: str, span: str) -> str:
    """Write the header of W3C Trace Context."""
    return f"00-{trace}-{span}-01"


def read_traceparent(text: str) -> tuple[str, str] | None:
    """Read trace and span from the header; None when it is none."""
    found = _TRACEPARENT.fullmatch(text)
    return (found[1], found[2]) if found else None


class ClientWork(StrEnum):
    """What a client spends a round's time on."""

    DOWNLOAD = "download"
    TRAIN = "train"
    UPLOAD = "upload"
    VALIDATE = "validate"


class ClientSpan(Message):
    """One piece of a client's work: when it began (Unix seconds by the client's clock), and how long it took.

    Without `seconds` it was under way as this was sent: it ends when the request arrives.
    """

    name: ClientWork
    start: Annotated[float, Field(ge=0, le=2**33)]
    seconds: Annotated[float, Field(ge=0, le=2**31)] | None = None


class ClientSpans(Message):
    """What a client did for a round, as far as this run of it knows. `sent`: its clock as it sent this.

    A client whose clock is wrong is set right by `sent` and the time at which this arrives.
    """

    sent: Annotated[float, Field(ge=0, le=2**33)]
    spans: Annotated[tuple[ClientSpan, ...], Field(max_length=CLIENT_SPANS_MAX)]
