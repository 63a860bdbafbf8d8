"""A program that cancels its client, in the middle of whatever it does, sees a cancellation and no more."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

import pytest
from fedbus import Client, Options, Trainer
from fedbus_schemas.asks import Answer, Grant, Noted, Synced, Welcome


class Line:
    """Gives the client one task, whose model lies in the object store."""

    def __init__(self, world: Any) -> None:
        self._world = world

    async def serve(
        self, hear: Callable[[bytes], None], attend: Callable[[], Coroutine[None, None, None]]
    ) -> None:
        await attend()

    async def ask(
        self, verb: str, content: bytes, trace_id: str = "", timeout_s: float | None = None
    ) -> Answer:
        if verb == "hello":
            return Answer(welcome=Welcome(client=self._world.client, beat_s=3600))
        if verb == "sync":
            task = self._world.train(1, model=self._world.model(inline=False))
            return Answer(synced=Synced(mail=(self._world.sign(self._world.mail(tasks=[task])),)))
        if verb == "grant":
            until = datetime(2030, 1, 1, tzinfo=UTC)
            return Answer(grant=Grant(method="GET", url="http://store/model", expires=until))
        return Answer(noted=Noted())


async def test_in_the_middle_of_a_download(world: Any, download: threading.Event) -> None:
    trainer = Trainer(lambda model, settings: (model, 1, {}))
    client = Client(trainer, Options(credentials=world.credentials), line=Line(world))
    run = asyncio.get_running_loop().create_task(client.run())
    await asyncio.to_thread(download.wait, 10)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
