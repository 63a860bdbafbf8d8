"""The log's outer form: CloudEvents 1.0 events, gathered into one entry per decision.

An entry is one message in the EVENTS stream. Its `previous` is the SHA-256 of the stored bytes of the
session's entry before it, so the log of a session is a chain.
"""

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field, StringConstraints

from fedbus_schemas.ids import InstanceName, ProjectId, PublicKey, SessionId, Sha256, Signature
from fedbus_schemas.wire import Message

GENESIS = "0" * 64
"""What stands in `previous` of a session's first entry."""

CONTENT_TYPE = "application/cloudevents+json"


class CloudEvent(Message):
    """One event in CloudEvents 1.0 structured form, with W3C trace context as the extension defines it."""

    specversion: Literal["1.0"] = "1.0"
    id: str
    source: str
    type: str
    subject: str
    time: AwareDatetime
    datacontenttype: Literal["application/json"] = "application/json"
    traceparent: (
        Annotated[str, StringConstraints(pattern=r"^00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]$")] | None
    ) = None
    data: dict[str, Any]


class Entry(Message):
    """One decision: its events, all appended or none.

    `number` counts a session's entries from 1. `cause` is the id of the input that led to it, so that
    an input delivered twice is seen to be done. `by` is the controller that decided.
    """

    project: ProjectId
    session: SessionId
    number: Annotated[int, Field(ge=1)]
    previous: Sha256
    cause: Annotated[str, StringConstraints(max_length=256)]
    events: Annotated[tuple[CloudEvent, ...], Field(min_length=1, max_length=16)]
    by: InstanceName | None = None


class Head(Message):
    """A controller's signature over the head of a session's chain (`signing.HEAD`).

    It binds the entry's number to the SHA-256 of its stored bytes, and through the chain all before it.
    """

    project: ProjectId
    session: SessionId
    number: Annotated[int, Field(ge=1)]
    entry: Sha256


class SignedHead(Message):
    """A head's exact bytes, and the signature over them."""

    head: str
    key: PublicKey
    signature: Signature

    def content(self) -> Head:
        """Parse the head. Raises `pydantic.ValidationError` when it is not one."""
        return Head.model_validate_json(self.head)
