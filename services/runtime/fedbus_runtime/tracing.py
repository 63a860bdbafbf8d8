"""What a service shows of itself in a round's trace, without any knowledge of OpenTelemetry.

A scope lasts as long as a message is handled or a request answered. What is found out meanwhile goes into
it: which round the work is `about`, the calls to the outside (`step`), retries and refusals. When it ends, its
spans are handed over together, so a process that dies leaves no span whose parent is missing: the parent of
a scope's own span is one that the log will show (`traces.root_span`), whoever wrote the message.
Messages name each other by links.

Without an endpoint for traces there is no scope, and every function here returns at once; `about` still
binds the round to the log's lines. No free text becomes an attribute: it may hold an address or a secret. The
names are in `span_names.py`.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import structlog
from fedbus_schemas.ids import ClientId
from fedbus_schemas.traces import TRACEPARENT, read_traceparent, root_span, trace_id

from fedbus_runtime.client_spans import reported
from fedbus_runtime.ports import RoundKey
from fedbus_runtime.spans import Attributes, Kind, Link, Span, Tracing, Value

STEPS_MAX = 1_000
"""Calls to the outside that one scope shows; of more, the number is told."""
SHORT_NS = 1_000_000
"""Calls that were faster than this and went well are told by their number, too."""


class Scope:
    """What is known of the work under way."""

    def __init__(
        self,
        tracing: Tracing,
        kind: Kind,
        attributes: Attributes,
        links: Sequence[Link],
        headers: Mapping[str, str],
    ) -> None:
        self._tracing = tracing
        self._kind = kind
        self._attributes = attributes
        self._links = links
        self.headers = headers
        self.start = time.time_ns()
        self.own: list[Span] = []
        self.spans: list[Span] = []
        self.left_out = 0

    def begin(self, name: str, key: RoundKey, client: ClientId | None) -> Span:
        """Begin the scope's span in a round's trace. A second one begins where the scope began, too."""
        trace = trace_id(key.project, key.session, key.round, key.attempt)
        attributes = {**self._attributes, "fl.session": key.session, "fl.round": key.round}
        if client is not None:
            attributes["fl.client"] = client
        span = Span(
            name,
            trace,
            root_span(trace),
            self.start,
            kind=self._kind,
            attributes=attributes,
            links=self._links,
        )
        self.own.append(span)
        return span

    def end(self) -> None:
        """Hand over all spans that belong to a round."""
        now = time.time_ns()
        for span in self.own:
            span.end = now
            if self.left_out:
                span.attributes["fl.steps.left_out"] = self.left_out
        if self.own:
            self._tracing.show([*self.own, *self.spans])


_scope: ContextVar[Scope | None] = ContextVar("scope", default=None)


@contextmanager
def scope(
    tracing: Tracing | None,
    kind: Kind,
    attributes: Attributes,
    *,
    links: Sequence[Link] = (),
    headers: Mapping[str, str] = {},  # never changed
) -> Iterator[None]:
    """Show what is done meanwhile, if it turns out to be about a round."""
    if tracing is None:
        yield
        return
    opened = Scope(tracing, kind, attributes, links, headers)
    token = _scope.set(opened)
    try:
        yield
    except BaseException as error:
        failed(type(error).__name__)
        raise
    finally:
        _scope.reset(token)
        opened.end()


def about(name: str, key: RoundKey, client: ClientId | None = None) -> None:
    """Say which work on which attempt this is; log lines carry it from now on, too."""
    trace = trace_id(key.project, key.session, key.round, key.attempt)
    bound = {"client": client} if client is not None else {}
    structlog.contextvars.bind_contextvars(
        session=key.session, round=key.round, trace_id=trace, **bound
    )
    opened = _scope.get()
    if opened is None:
        return
    span = opened.begin(name, key, client)
    if client is not None:
        told = reported(opened.headers, trace, client, opened.start)
        opened.spans += told
        span.parent = told[0].span if told else span.parent


def tell(**attributes: Value) -> None:
    """Add attributes of the project's own to the span of the work under way: `fl.` comes before the names."""
    span = current()
    if span is not None:
        span.attributes.update({f"fl.{name}": value for name, value in attributes.items()})


def happened(name: str, **attributes: Value) -> None:
    """Note what happened at this moment of the work under way."""
    span = current()
    if span is not None:
        told: Attributes = {f"fl.{key}": value for key, value in attributes.items()}
        span.events.append((name, time.time_ns(), told))


def failed(code: str) -> None:
    """Say that the work under way came to nothing, and with which code."""
    opened = _scope.get()
    for span in opened.own if opened is not None else ():
        span.error = code
        span.attributes["error.type"] = code


def named_trace() -> str | None:
    """Give the trace that the request under way says it belongs to: a client may name any."""
    opened = _scope.get()
    named = read_traceparent(opened.headers.get(TRACEPARENT, "")) if opened is not None else None
    return named[0] if named is not None else None


def current() -> Span | None:
    """Give the span of the work under way, None when there is none."""
    opened = _scope.get()
    return opened.own[-1] if opened is not None and opened.own else None


@contextmanager
def step(name: str, kind: Kind, attributes: Attributes) -> Iterator[Span | None]:
    """Show a call to the outside below the work under way."""
    opened = _scope.get()
    parent = current()
    if opened is None or parent is None:
        yield None
        return
    if len(opened.spans) >= STEPS_MAX:
        opened.left_out += 1
        yield None
        return
    span = Span(name, parent.trace, parent.span, time.time_ns(), kind=kind, attributes=attributes)
    try:
        yield span
    except BaseException as error:
        span.error = span.attributes["error.type"] = type(error).__name__
        raise
    finally:
        span.end = time.time_ns()
        if span.error is None and span.end - span.start < SHORT_NS:
            opened.left_out += 1
        else:
            opened.spans.append(span)
