"""The live event stream (server-sent events): the log from any place on, then what happens.

A log event's id is its entry's sequence in EVENTS, on the entry's last event: who reconnects with
`Last-Event-ID` gets every entry after it, whole. The live feed only says that the log has grown; what is
sent is read from the log, in order and without gaps. Live hints (an update stored, a validation) have
no id and come at most once.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from fastapi.responses import Response
from fedbus_runtime.errors import BusAway
from fedbus_runtime.ports import StoredMessage, Streams, Wire
from fedbus_schemas import subjects
from fedbus_schemas.codec import read
from fedbus_schemas.envelope import Entry
from fedbus_schemas.events import SessionCompleted, SessionExtended, SessionFailed, SessionStopped
from fedbus_schemas.ids import ProjectId, SessionId
from fedbus_schemas.streams import EVENTS
from fedbus_schemas.views import LiveUpdate, LiveValidation, LoggedEvent
from fedbus_schemas.wire import Message
from starlette.types import Receive, Scope, Send
from structlog.stdlib import get_logger

from fedbus_api.validations import validation_report

HEARTBEAT_S = 15.0
HINTS_WAITING_MAX = 1_000
"""Live hints that wait for a slow reader; more, and it is dropped (it resumes where it was)."""
ENTRIES_AT_ONCE = 100
RETRY_MS = 1_000

UPDATE_STORED = "update.stored"
VALIDATION_REPORTED = "validation.reported"
MEDIA_TYPE = "text/event-stream"

_ENDS = {SessionCompleted.TYPE, SessionStopped.TYPE, SessionFailed.TYPE}
_log = get_logger()


@dataclass(slots=True)
class Feed:
    """What one reader wants, and how far it is. `ended` says whether the session is over by now.

    With `follow` the stream goes on after the session's end, which an extension may undo. Without it,
    a stream of all sessions ends where the log does.
    """

    streams: Streams
    wire: Wire
    project: ProjectId
    session: SessionId | None
    after: int
    follow: bool
    ended: bool
    stopping: asyncio.Event
    heartbeat_s: float = HEARTBEAT_S
    waiting_max: int = HINTS_WAITING_MAX
    _waiting: deque[bytes | None] = field(default_factory=deque)
    _woken: asyncio.Event = field(default_factory=asyncio.Event)
    _over: bool = False
    _writing: asyncio.Task[None] | None = None
    too_slow: bool = False

    async def run(self, receive: Receive, send: Send) -> None:
        """Send until the reader is gone, the service stops, or there is nothing more to come."""
        name = self.session or "*"
        async with asyncio.TaskGroup() as tasks:
            feeds = (
                (subjects.live_event(self.project, name), self._on_entry),
                (subjects.live_update(self.project, name), self._on_update),
                (subjects.live_telemetry(self.project), self._on_telemetry),
            )
            helping = [tasks.create_task(self._listen(subject, take)) for subject, take in feeds]
            helping.append(tasks.create_task(self._watch(receive)))
            helping.append(tasks.create_task(self._stop()))
            await asyncio.sleep(0)  # the feeds' first step subscribes
            self._writing = tasks.create_task(self._write(send))
            await asyncio.wait([self._writing])
            for task in helping:
                task.cancel()

    async def _write(self, send: Send) -> None:
        await _send(send, f"retry: {RETRY_MS}\n\n".encode())
        self._waiting.append(None)
        while not self._over:
            self._woken.clear()
            while self._waiting and not self._over:
                hint = self._waiting.popleft()
                if hint is None:
                    await self._send_log(send)
                else:
                    await _send(send, hint)
            if not self.follow and (self.ended or self.session is None):
                return
            try:
                async with asyncio.timeout(self.heartbeat_s):
                    await self._woken.wait()
            except TimeoutError:
                await _send(send, b": still here\n\n")
                self._waiting.append(None)  # in case the live feed missed an entry

    async def _send_log(self, send: Send) -> None:
        """Send all entries that are new."""
        subject = subjects.event(self.project, self.session or "*")
        while not self._over:
            try:
                entries = await self.streams.read(
                    EVENTS, subject, after=self.after, limit=ENTRIES_AT_ONCE
                )
            except BusAway as away:
                _log.warning("event_stream.bus_away", error=str(away))
                return  # the next heartbeat looks again
            for entry in entries:
                await _send(send, self._frames(entry))
                self.after = entry.sequence
            if len(entries) < ENTRIES_AT_ONCE:
                return

    def _frames(self, message: StoredMessage) -> bytes:
        entry = read(Entry, message.data)
        frames = []
        for index, event in enumerate(entry.events, start=1):
            logged = LoggedEvent(
                session=entry.session,
                number=entry.number,
                sequence=message.sequence,
                time=message.time,
                type=event.type,
                data=event.data,
            )
            last = index == len(entry.events)
            frames.append(frame(event.type, logged, message.sequence if last else None))
            if event.type in _ENDS:
                self.ended = True
            elif event.type == SessionExtended.TYPE:
                self.ended = False
        return b"".join(frames)

    async def _listen(self, subject: str, take: Callable[[StoredMessage], None]) -> None:
        try:
            async for message in self.wire.listen(subject):
                take(message)
        except BusAway:
            return  # hints are lost, the log is read with each heartbeat

    def _on_entry(self, _: StoredMessage) -> None:
        if not self._waiting or self._waiting[-1] is not None:
            self._waiting.append(None)
        self._woken.set()

    def _on_update(self, message: StoredMessage) -> None:
        _, _, _, session, number, client, attempt = _tokens(message)
        update = LiveUpdate(
            session=session,
            round=int(number),
            attempt=int(attempt),
            client=client,
            sequence=message.sequence,
            time=message.time,
        )
        self._hint(frame(UPDATE_STORED, update))

    def _on_telemetry(self, message: StoredMessage) -> None:
        client, *kind = _tokens(message)[3:]
        report = validation_report(message) if kind[:1] == ["validation"] else None
        if report is None or self.session not in (None, report.session):
            return
        view = LiveValidation(
            session=report.session,
            round=report.round,
            client=client,
            time=message.time,
            weight=report.weight,
            metrics=report.metrics,
        )
        self._hint(frame(VALIDATION_REPORTED, view))

    def _hint(self, data: bytes) -> None:
        if len(self._waiting) >= self.waiting_max:
            self.too_slow = True
            self._cut()
            return
        self._waiting.append(data)
        self._woken.set()

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._cut()

    async def _stop(self) -> None:
        await self.stopping.wait()
        self._over = True
        self._woken.set()

    def _cut(self) -> None:
        """End at once, also when the reader has stopped reading."""
        if self._writing is not None:
            self._writing.cancel()


class EventStream(Response):
    """The response that runs a feed. It has no generator, so a reader that leaves ends all its tasks."""

    media_type = MEDIA_TYPE

    def __init__(self, feed: Feed, running: set[int]) -> None:
        """`running` holds the streams that are open now."""
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._feed = feed
        self._running = running

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request."""
        self._running.add(id(self))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await self._feed.run(receive, send)
            if not self._feed.too_slow:  # else the server sees an unfinished response and cuts
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._running.discard(id(self))


def frame(kind: str, data: Message, number: int | None = None) -> bytes:
    """Write one server-sent event."""
    place = f"id: {number}\n" if number is not None else ""
    return f"event: {kind}\n{place}data: {data.to_bytes().decode()}\n\n".encode()


def _tokens(message: StoredMessage) -> list[str]:
    """Split the subject under which the message is stored."""
    tokens = message.subject.split(".")
    return [*tokens[:2], *tokens[3:]] if tokens[2] == "live" else tokens


async def _send(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})
