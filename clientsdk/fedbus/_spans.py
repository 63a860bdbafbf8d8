"""How long a client's work took, told to the servers in a header of what it asks anyway.

So a client shows up in the round's trace without OpenTelemetry, without a message more, and behind any
firewall that lets the bus through. Only names and times are told; nothing is decided on them.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from fedbus_schemas.traces import (
    CLIENT_SPANS,
    CLIENT_SPANS_MAX,
    ClientSpan,
    ClientSpans,
    ClientWork,
)

TOLD_WITH = frozenset({"submit", "report", "decline"})
"""The verbs that carry them: what ends a piece of work."""
SHORT_S = 0.001
"""What took less is not told, as a model that rode along with its task."""


class Spans:
    """What this client did for one task, which belongs to the trace of this id ("" = unknown)."""

    def __init__(self, trace_id: str = "") -> None:
        self.trace_id = trace_id
        self._done: list[ClientSpan] = []
        self._going_on: ClientSpan | None = None

    def send(self) -> None:
        """Work on sending the result from now on, until it arrives."""
        current.set(self)
        self._going_on = ClientSpan(name=ClientWork.UPLOAD, start=time.time())

    @contextmanager
    def timed(self, name: ClientWork) -> Iterator[None]:
        """Measure work."""
        at, started = time.time(), time.monotonic()
        try:
            yield
        finally:
            seconds = time.monotonic() - started
            if seconds >= SHORT_S:
                span = ClientSpan(name=name, start=at, seconds=seconds)
                self._done = [*self._done, span][-(CLIENT_SPANS_MAX - 1) :]

    def headers(self) -> dict[str, str]:
        """Give the header that tells them; none when there is nothing to tell."""
        spans = (*self._done, *((self._going_on,) if self._going_on else ()))
        if not spans:
            return {}
        return {CLIENT_SPANS: ClientSpans(sent=time.time(), spans=spans).to_bytes().decode()}


current: ContextVar[Spans] = ContextVar("current")
"""The spans of the task that this asyncio task works on."""


def begin(trace_id: str) -> Spans:
    """Begin to work on a task of this trace, in this asyncio task."""
    spans = Spans(trace_id)
    current.set(spans)
    return spans


@contextmanager
def timed(name: ClientWork) -> Iterator[None]:
    """Measure work on the present task."""
    with current.get(Spans()).timed(name):
        yield


def trace_id() -> str:
    """Give the id of the trace that the present task belongs to, "" when there is none."""
    spans = current.get(None)
    return spans.trace_id if spans is not None else ""


def headers(verb: str) -> dict[str, str]:
    """Give what a request of this verb tells of the present task."""
    spans = current.get(None)
    return spans.headers() if spans is not None and verb in TOLD_WITH else {}
