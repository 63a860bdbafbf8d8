"""The skeleton of a trace, made from the log: whole, the same whoever makes it, and only of what ended."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from fedbus_controller.round_spans import SHOWN_AGE_MAX, RoundSpans
from fedbus_runtime.errors import TelemetryAway
from fedbus_runtime.memory import MemoryWorld
from fedbus_runtime.memory_clock import ManualClock
from fedbus_runtime.ports import StoredMessage, Streams
from fedbus_runtime.spans import Span
from fedbus_schemas import subjects
from fedbus_schemas.sessions import StopSession
from fedbus_schemas.streams import EVENTS, STREAMS
from fedbus_schemas.traces import root_span, trace_id

from tests.round_worlds import PROJECT, SESSION, START, RoundWorld

ENTRIES = 10_000
STEP_S = 100.0


class Collector:
    """Takes spans, when it is there."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.away = False

    def show(self, spans: Sequence[Span]) -> None:
        raise AssertionError("the skeleton is delivered, not queued")

    async def deliver(self, spans: Sequence[Span]) -> None:
        if self.away:
            raise TelemetryAway("away")
        self.spans += spans


async def empty(clock: ManualClock) -> Streams:
    ports = MemoryWorld(clock).connections()
    await ports.deliveries.prepare(STREAMS, [])
    return ports.streams


async def stored(world: RoundWorld, clock: ManualClock) -> Streams:
    """Append a session's log, an entry each hundred seconds."""
    streams = await empty(clock)
    for data in world.log:
        clock.advance(STEP_S)
        await streams.append(subjects.event(PROJECT, SESSION), data)
    return streams


async def log_of(streams: Streams) -> list[StoredMessage]:
    return await streams.read(EVENTS, subjects.event(PROJECT, SESSION), limit=ENTRIES)


def played() -> RoundWorld:
    """Two attempts: the first fails for want of updates, the second makes a model with one refused."""
    world = RoundWorld("abcd")
    world.start(minimum=2, target=3, attempts_max=3, rounds=1)
    world.deadline()
    world.store("abc")
    world.target()
    world.finish(bad="c")
    world.store("d")
    world.target()
    world.finish(bad="c")
    return world


async def shown(streams: Streams, clock: ManualClock, collector: Collector) -> list[Span]:
    spans = RoundSpans(streams, clock, collector)
    for message in await log_of(streams):
        await spans.on_entry(message)
    return collector.spans


async def test_each_attempt_has_its_span_and_its_phases() -> None:
    clock = ManualClock(START)
    found = await shown(await stored(played(), clock), clock, Collector())
    first, second = (trace_id(PROJECT, SESSION, 1, attempt) for attempt in (1, 2))
    names = [(one.trace, one.name, one.attributes.get("fl.step")) for one in found]
    assert names == [
        (first, "round", None),
        (first, "phase.collect", 1),
        (second, "round", None),
        (second, "phase.collect", 1),
        (second, "phase.finish", 1),
        (second, "phase.collect", 2),
        (second, "phase.finish", 2),
    ]
    for trace in (first, second):
        whole, *phases = [one for one in found if one.trace == trace]
        assert (whole.span, whole.parent) == (root_span(trace), None)
        assert {one.parent for one in phases} == {whole.span}
        assert all(a.end == b.start for a, b in pairwise(phases))
        assert whole.start <= phases[0].start < phases[-1].end == whole.end
    failed, made = (one for one in found if one.name == "round")
    assert (failed.error, failed.attributes["fl.counted"]) == ("below_minimum", 0)
    assert (made.error, made.attributes["fl.outcome"]) == (None, "completed")
    assert (made.attributes["fl.counted"], made.attributes["fl.refused"]) == (3, 1)
    assert list(made.links) == [(first, root_span(first))]
    events = [(name, told.get("fl.code") or told.get("fl.codes")) for name, _, told in made.events]
    assert ("reopened", ("not_finite=1",)) in events
    assert events[-1] == ("update.refused", "not_finite")


async def test_whoever_shows_it_and_however_often_it_is_the_same() -> None:
    clock = ManualClock(START)
    streams = await stored(played(), clock)
    found = await shown(streams, clock, Collector())
    collector, last = Collector(), (await log_of(streams))[-1]
    again = RoundSpans(streams, clock, collector)
    await again.on_entry(last)
    await again.on_entry(last)
    once = [one for one in found if one.trace == collector.spans[0].trace]
    assert collector.spans == once + once


async def test_what_the_collector_did_not_take_is_shown_later() -> None:
    clock, collector = ManualClock(START), Collector()
    streams = await stored(played(), clock)
    spans, last = RoundSpans(streams, clock, collector), (await log_of(streams))[-1]
    collector.away = True
    with pytest.raises(TelemetryAway):
        await spans.on_entry(last)
    collector.away = False
    await spans.on_entry(last)
    assert collector.spans[0].name == "round"


async def test_what_ended_long_ago_is_not_shown_any_more() -> None:
    clock = ManualClock(START)
    streams = await stored(played(), clock)
    clock.advance(SHOWN_AGE_MAX.total_seconds() + 1)
    assert await shown(streams, clock, Collector()) == []


async def test_a_round_that_was_stopped_ends_in_its_trace() -> None:
    world, clock = RoundWorld(), ManualClock(START)
    world.start()
    world.give(StopSession(reason="enough"))
    [whole, phase] = await shown(await stored(world, clock), clock, Collector())
    assert (whole.error, phase.name) == ("stopped", "phase.collect")


async def test_a_log_that_cannot_be_read_has_no_trace() -> None:
    clock, collector = ManualClock(START), Collector()
    streams = await empty(clock)
    await streams.append(subjects.event(PROJECT, SESSION), b"no entry")
    assert await shown(streams, clock, collector) == []
