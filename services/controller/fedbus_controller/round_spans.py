"""Shows every ended attempt in its trace: the span that all others hang from, and its phases.

Made from the log by a durable consumer of its own, and acked when the collector has them. So they come
whichever controller dies when, and no round waits for them. Shown twice they are the same: ids and times
follow from the log.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Iterator
from datetime import datetime, timedelta

import structlog
from fedbus_core.rounds.log import LogBroken, read_entry
from fedbus_core.rounds.timeline import AttemptTimes, Timeline
from fedbus_runtime.ports import Clock, StoredMessage, Streams
from fedbus_runtime.spans import Attributes, Span, Tracing
from fedbus_schemas.codec import UnknownEvent
from fedbus_schemas.envelope import Entry
from fedbus_schemas.events import (
    AnyEvent,
    RefusedUpdate,
    RoundCompleted,
    RoundFailed,
    SessionFailed,
    SessionStopped,
)
from fedbus_schemas.streams import EVENTS
from fedbus_schemas.traces import root_span, span_id, trace_id

SESSIONS_MAX = 256
"""Sessions whose open attempt is remembered; of others the log is read again."""
READ_LIMIT = 1_000
SHOWN_AGE_MAX = timedelta(hours=1)
"""What ended longer ago is not shown any more: traces were switched on after it, or the collector was away."""
REFUSED_SHOWN_MAX = 100

_ENDS = RoundCompleted | RoundFailed | SessionStopped | SessionFailed
_log = structlog.get_logger(__name__)


class RoundSpans:
    """The handler of the `tracers` consumer."""

    def __init__(self, streams: Streams, clock: Clock, shown: Tracing) -> None:
        self._streams = streams
        self._clock = clock
        self._shown = shown
        self._reading = asyncio.Lock()
        self._timelines: OrderedDict[tuple[str, str], tuple[int, Timeline]] = OrderedDict()

    async def on_entry(self, message: StoredMessage) -> None:
        """Show the attempts that an entry ended. Raises `Away`: then it is done again later."""
        try:
            entry, events = read_entry(message.data)
            if not any(isinstance(event, _ENDS) for event in events):
                return
            if self._clock.now() - message.time > SHOWN_AGE_MAX:
                return
            async with self._reading:
                ended = await self._ended(entry, message)
            spans = [span for attempt in ended for span in spans_of(entry, attempt)]
            await self._shown.deliver(spans)
        except (LogBroken, UnknownEvent) as error:
            _log.warning("round.untraced", why=str(error))

    async def _ended(self, entry: Entry, message: StoredMessage) -> list[AttemptTimes]:
        """Follow the log to this entry and give what ended with it."""
        place = (entry.project, entry.session)
        sequence, timeline = self._timelines.pop(place, (0, Timeline()))
        if sequence >= message.sequence:  # it comes again
            sequence, timeline = 0, Timeline()
        while True:
            stored = await self._streams.read(
                EVENTS, message.subject, after=sequence, limit=READ_LIMIT
            )
            for one in stored:
                ended = list(timeline.add(*_told(one)))
                sequence = one.sequence
                if sequence == message.sequence:
                    self._timelines[place] = (sequence, timeline)
                    if len(self._timelines) > SESSIONS_MAX:
                        self._timelines.popitem(last=False)
                    return ended
            if not stored:
                raise LogBroken(f"session {entry.session}: entry {entry.number} is not in its log")


def spans_of(entry: Entry, attempt: AttemptTimes) -> list[Span]:
    """Give the spans of an ended attempt: the whole and its phases."""
    opened = attempt.opened
    trace, root = opened.trace_id, root_span(opened.trace_id)
    place: Attributes = {
        "fl.project": entry.project,
        "fl.session": entry.session,
        "fl.round": opened.round,
        "fl.attempt": opened.attempt,
    }
    attributes = {**place, **_counts(attempt)}
    whole = Span(
        "round", trace, None, _ns(attempt.start), _ns(attempt.end), root, attributes=attributes
    )
    if opened.attempt > 1:
        before = trace_id(entry.project, entry.session, opened.round, opened.attempt - 1)
        whole.links = ((before, root_span(before)),)
    if not isinstance(attempt.ended, RoundCompleted):
        whole.error = str(attributes["fl.outcome"])
    whole.events.extend(_moments(attempt))
    phases = [
        Span(
            f"phase.{phase.name}",
            trace,
            root,
            _ns(phase.start),
            _ns(phase.end),
            span_id(trace, f"{phase.name}/{phase.step}"),
            attributes={"fl.phase": phase.name, "fl.step": phase.step},
        )
        for phase in attempt.phases
    ]
    return [whole, *phases]


def _told(message: StoredMessage) -> tuple[tuple[AnyEvent, ...], datetime, datetime]:
    entry, events = read_entry(message.data)
    return events, entry.events[0].time, message.time


def _counts(attempt: AttemptTimes) -> Attributes:
    opened = attempt.opened
    told: Attributes = {
        "fl.invited": len(opened.cohort),
        "fl.target": opened.target,
        "fl.minimum": opened.minimum,
    }
    match attempt.ended:
        case RoundCompleted() as done:
            told |= {
                "fl.outcome": "completed",
                "fl.counted": len(done.counted),
                "fl.rule": done.rule,
            }
            told |= {"fl.model": done.model.digest, "fl.refused": len(done.refused)}
        case RoundFailed() as done:
            told |= {
                "fl.outcome": done.reason.value,
                "fl.counted": 0,
                "fl.refused": len(done.refused),
            }
        case _:
            told |= {"fl.outcome": "stopped"}
    return told


def _moments(attempt: AttemptTimes) -> Iterator[tuple[str, int, Attributes]]:
    """Give what happened in an attempt that is no piece of work."""
    for at, closing in attempt.closings:
        yield "closing", _ns(at), {"fl.step": closing.step, "fl.reason": closing.reason.value}
    for at, reopened in attempt.reopenings:
        yield "reopened", _ns(at), {"fl.step": reopened.step, **_codes(reopened.refused)}
    for at in attempt.deadline_moves:
        yield "deadline_moved", _ns(at), {}
    refused = (
        attempt.ended.refused if isinstance(attempt.ended, RoundCompleted | RoundFailed) else ()
    )
    for one in refused[:REFUSED_SHOWN_MAX]:
        told: Attributes = {"fl.client": one.client, "fl.code": one.code.value}
        yield "update.refused", _ns(attempt.end), told


def _codes(refused: tuple[RefusedUpdate, ...]) -> Attributes:
    counts = Counter(one.code.value for one in refused)
    return {"fl.codes": tuple(f"{code}={count}" for code, count in sorted(counts.items()))}


def _ns(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000) * 1_000
