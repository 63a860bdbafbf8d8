"""Messages in traces, by OpenTelemetry's conventions for messaging: the stream is the destination."""

from collections.abc import Mapping
from contextlib import AbstractContextManager

from fedbus_schemas.streams import Consumer
from fedbus_schemas.traces import TRACEPARENT, read_traceparent

from fedbus_runtime import tracing
from fedbus_runtime.ports import Delivery
from fedbus_runtime.spans import Attributes, Kind, Link, Tracing


def taking(
    shown: Tracing | None, consumer: Consumer, delivery: Delivery
) -> AbstractContextManager[None]:
    """Give the scope in which a consumer's message is handled."""
    message = delivery.message
    attributes: Attributes = {
        **messaging(consumer.stream, "process"),
        "messaging.consumer.group.name": consumer.name,
        "messaging.message.id": str(message.sequence),
    }
    if delivery.count > 1:
        attributes["fl.deliveries"] = delivery.count
    return tracing.scope(shown, Kind.CONSUMER, attributes, links=links_of(message.headers))


def messaging(destination: str, operation: str) -> Attributes:
    """Give what the conventions want of each span about a message."""
    return {
        "messaging.system": "nats",
        "messaging.destination.name": destination,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
    }


def links_of(headers: Mapping[str, str]) -> tuple[Link, ...]:
    """Give the span that a message came from, if it carries one."""
    link = read_traceparent(headers.get(TRACEPARENT, ""))
    return () if link is None else (link,)
