"""The event stream: resuming, live hints, slow readers, the end."""

import asyncio
import json

from fedbus_api.event_stream import EventStream, Feed

A, B = ("c" + one * 16 for one in "ab")


def parse(text):
    """Read server-sent events: (type, id, data)."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in block.splitlines() if not line.startswith(":")
        )
        if "event" in fields:
            number = int(fields["id"]) if "id" in fields else None
            found.append((fields["event"], number, json.loads(fields["data"])))
    return found


class Reader:
    """A reader of a stream, driven by the ASGI interface."""

    def __init__(self) -> None:
        self.text = ""
        self.status = 0
        self.complete = False
        self.gone = asyncio.Event()
        self.reads = asyncio.Event()
        self.reads.set()
        self._news = asyncio.Event()

    async def receive(self):
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        await self.reads.wait()
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            self.text += message["body"].decode()
            self.complete = not message["more_body"]
        self._news.set()

    async def until(self, kind):
        async with asyncio.timeout(5):
            while all(one[0] != kind for one in parse(self.text)):
                self._news.clear()
                await self._news.wait()


def feed(world, *, session="s-1", **more):
    return Feed(
        streams=world.servers.bus.streams,
        wire=world.servers.bus.wire,
        project="default",
        session=session,
        stopping=world.api.stopping,
        **({"after": 0, "follow": True, "ended": False} | more),
    )


async def start(world, file, **more):
    async with world.client() as client:
        model = (await client.post("/v1/models", content=file)).json()["digest"]
        body = {"model": model, "session": "s-1", "rounds": 1, **more}
        assert (await client.post("/v1/sessions", json=body)).status_code == 201


async def test_sends_the_log_and_ends_with_the_session(world, file) -> None:
    await start(world, file)
    world.complete("s-1", [A])
    async with world.client() as client:
        answer = await client.get("/v1/sessions/s-1/events?follow=false")
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = parse(answer.text)
        assert [one[0] for one in events] == [
            "session.started.v1",
            "round.opened.v1",
            "round.closing.v1",
            "round.completed.v1",
            "session.completed.v1",
        ]
        # Only an entry's last event has the id: who resumes gets an entry whole or not at all.
        assert [one[1] for one in events] == [None, 1, 2, None, 3]
        headers = {"Last-Event-ID": "2"}
        rest = await client.get("/v1/sessions/s-1/events?follow=false", headers=headers)
        assert [one[0] for one in parse(rest.text)] == [
            "round.completed.v1",
            "session.completed.v1",
        ]
        after = await client.get("/v1/sessions/s-1/events?follow=false&after=3")
        assert parse(after.text) == []
        both = await client.get("/v1/events?follow=false&after=0")
        assert parse(both.text) == events
        none = await client.get("/v1/events?follow=false")
        assert parse(none.text) == []
        bad = await client.get("/v1/sessions/s-1/events", headers={"Last-Event-ID": "x"})
        assert (bad.status_code, bad.json()["code"]) == (422, "invalid")


async def test_goes_on_live_with_hints_and_ends_on_stop(world, file) -> None:
    await start(world, file, rounds=3)
    reader = Reader()
    running: set[int] = set()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(EventStream(feed(world), running)({}, reader.receive, reader.send))
        await reader.until("round.opened.v1")
        assert len(running) == 1
        await world.submit("s-1", A)
        await reader.until("update.stored")
        model = world.complete("s-1", [A])
        await reader.until("round.completed.v1")
        world.validate("s-1", A, 1, model, accuracy=1.0)
        await reader.until("validation.reported")
        world.api.stopping.set()
        async with asyncio.timeout(5):
            await task
    assert reader.complete
    assert not running
    assert not world.bus.feeds
    by_type = {kind: (number, data) for kind, number, data in parse(reader.text)}
    number, data = by_type["update.stored"]
    assert number is None
    assert (data["client"], data["round"], data["attempt"]) == (A, 1, 1)
    assert by_type["validation.reported"][1]["metrics"] == {"accuracy": 1.0}
    numbers = [one[1] for one in parse(reader.text) if one[1] is not None]
    assert numbers == sorted(set(numbers))


async def test_a_reader_that_leaves_ends_everything(world, file) -> None:
    await start(world, file)
    reader = Reader()
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        tasks.create_task(EventStream(feed(world), set())({}, reader.receive, reader.send))
        await reader.until("round.opened.v1")
        reader.gone.set()
    assert not world.bus.feeds


async def test_a_reader_that_is_too_slow_is_dropped(world, file) -> None:
    await start(world, file)
    reader = Reader()
    slow = feed(world, waiting_max=3)
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        tasks.create_task(EventStream(slow, set())({}, reader.receive, reader.send))
        await reader.until("round.opened.v1")
        reader.reads.clear()
        for one in "abcdef":
            await world.submit("s-1", "c" + one * 16)
            await asyncio.sleep(0)
    assert slow.too_slow
    assert not reader.complete


async def test_the_heartbeat_makes_up_for_a_deaf_feed(world, file) -> None:
    await start(world, file)
    reader = Reader()
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        deaf = feed(world, heartbeat_s=0.02)
        tasks.create_task(EventStream(deaf, set())({}, reader.receive, reader.send))
        await reader.until("round.opened.v1")
        feeds = list(world.bus.feeds)
        world.bus.feeds.clear()
        world.complete("s-1", [A])
        await reader.until("session.completed.v1")
        world.bus.feeds.extend(feeds)
        reader.gone.set()
    assert ": still here" in reader.text


async def test_there_is_a_limit_to_open_streams(world, file) -> None:
    await start(world, file)
    world.api.event_streams = set(range(world.settings.event_streams_max))
    async with world.client() as client:
        answer = await client.get("/v1/sessions/s-1/events?follow=false")
        assert (answer.status_code, answer.json()["code"]) == (503, "retry_later")
