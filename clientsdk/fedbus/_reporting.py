"""Sends what lies in the outbox, one batch at a time, and says what waits there."""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fedbus_schemas.records import BATCH_RECORDS_MAX, Backlog, LinkQuality
from fedbus_schemas.refusals import RefusalCode

from fedbus import _threads
from fedbus._asking import OPEN_SOON, Asker
from fedbus._context import Place
from fedbus._outbox import Batch, Outbox, OutboxClosed
from fedbus._quality import LinkWatch
from fedbus.recorder import Recorder

log = logging.getLogger("fedbus")

LINGER_S = 0.1
"""How long a new record waits for others to travel with it."""
SYNC_EVERY_S = 1.0
"""How often at most the outbox is brought to the disk: what a cut of the power can lose."""
BACKLOG_EVERY_S = 30.0
"""How often the servers hear what waits."""
DISK_PAUSE_S = 5.0
"""How long to wait when the outbox cannot be written."""
PASSING = OPEN_SOON | {RefusalCode.VERB_UNKNOWN}
"""What the records outlast: also servers that are too old for them."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What a running client has for what its functions log."""

    recorder: Recorder
    place: Place
    reporting: "Reporting"


class Reporting:
    """The sending side of an outbox. Its methods belong to the event loop."""

    def __init__(self, outbox: Outbox, watch: LinkWatch) -> None:
        self.watch = watch
        self._outbox = outbox
        self._thread = _threads.Worker("fedbus-outbox")
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._unsynced = asyncio.Event()
        self._woken = False
        self._most = BATCH_RECORDS_MAX
        self._report_at = 0.0
        self._reported: Backlog | None = None
        self.wake()

    def wake(self) -> None:
        """Something was put into the outbox. From any thread; costs nothing while one is under way."""
        if self._woken:
            return
        self._woken = True
        try:
            self._loop.call_soon_threadsafe(self._on_news)
        except RuntimeError:  # the loop is closed: the client was stopped meanwhile
            return

    def close(self) -> None:
        """Let the outbox go, when its thread is through. Does not wait."""
        self._thread.close(self._outbox.close)

    async def keep(self) -> None:
        """Bring what was written to the disk, until cancelled, whether there is a connection or not."""
        while True:
            await self._unsynced.wait()
            await asyncio.sleep(SYNC_EVERY_S)
            self._unsynced.clear()
            await self._thread.run(self._outbox.sync)

    @asynccontextmanager
    async def sending(self, asker: Asker) -> AsyncIterator[None]:
        """Send while the block runs: there is a connection, and the servers know us."""
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self._send(asker))
            try:
                yield
            finally:
                task.cancel()

    async def report(self) -> Backlog | None:
        """Give what waits, when it is time to say so; an empty outbox that was reported is no news."""
        if self._loop.time() < self._report_at:
            return None
        self._report_at = self._loop.time() + BACKLOG_EVERY_S
        try:
            waiting = await self._thread.run(self._outbox.waiting)
        except (OutboxClosed, sqlite3.OperationalError):
            return None
        quality = self.watch.quality
        link = LinkQuality.HEALTHY if quality is LinkQuality.OFFLINE else quality
        backlog = Backlog(
            total=waiting.total,
            bytes=waiting.bytes,
            dropped=waiting.dropped,
            oldest_age_s=round(waiting.oldest_age_s, 1),
            link=link,
        )
        if backlog == self._reported and not backlog.total:
            return None
        self._reported = backlog
        middle = self.watch.round_trip_ms
        return backlog.model_copy(
            update={"round_trip_ms": None if middle is None else round(middle, 1)}
        )

    def _on_news(self) -> None:
        self._woken = False
        self._news.set()
        self._unsynced.set()

    async def _send(self, asker: Asker) -> None:
        self._news.set()
        while True:
            await self._news.wait()
            await asyncio.sleep(LINGER_S)
            self._news.clear()
            try:
                while (batch := await self._thread.run(self._take)) is not None:
                    await self._send_one(asker, batch)
            except OutboxClosed:
                return
            except sqlite3.OperationalError as error:
                log.warning("the outbox cannot be written: %s; trying again", error)
                self._news.set()
                await asyncio.sleep(DISK_PAUSE_S)

    def _take(self) -> Batch | None:
        return self._outbox.take(self._most)

    async def _send_one(self, asker: Asker, batch: Batch) -> None:
        answer = await asker.insist("records", batch.content, passing=PASSING)
        refusal = answer.refusal
        if refusal is None:
            self._most = min(BATCH_RECORDS_MAX, 2 * self._most)
            await self._thread.run(lambda: self._outbox.acknowledge(batch))
        elif batch.count > 1:
            # One of them is not taken; which one, smaller batches show.
            self._most = batch.count // 2
            await self._thread.run(lambda: self._outbox.dissolve(batch))
        else:
            log.warning("a record was refused: %s: %s", refusal.code, refusal.detail)
            await self._thread.run(lambda: self._outbox.drop(batch))
