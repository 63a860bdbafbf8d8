"""The services as a client sees them, in the test: they answer its asks and keep what was asked."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from fedbus import (
    Client,
    Options,
    Trainer,
)
from fedbus_schemas.asks import (
    Answer,
    Grant,
    GrantRequest,
    Noted,
    SessionReceipt,
    Stored,
    Synced,
    Welcome,
)
from fedbus_schemas.tasks import CommandMail, Mail
from fedbus_schemas.updates import Submission

WAIT_S = 10


class Services:
    """Answers a client's asks, and keeps what was asked. `plan` replaces the next answers of a verb."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.asked: list[tuple[str, bytes]] = []
        self.plan: dict[str, list[Answer | Exception]] = {}
        self.open_mail: list[Mail] = []
        self.receipts: list[SessionReceipt] = []
        self.changed = asyncio.Event()
        self.lost = asyncio.Event()
        self.hear: Callable[[bytes], None] = lambda _: None

    async def serve(
        self, hear: Callable[[bytes], None], attend: Callable[[], Coroutine[None, None, None]]
    ) -> None:
        self.hear = hear
        while True:
            self.lost.clear()
            async with asyncio.TaskGroup() as group:
                attending = group.create_task(attend())
                await self.lost.wait()
                attending.cancel()

    async def ask(
        self, verb: str, content: bytes, trace_id: str = "", timeout_s: float | None = None
    ) -> Answer:
        self.asked.append((verb, content))
        self.changed.set()
        planned = self.plan.get(verb)
        if planned:
            outcome = planned.pop(0)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome
        return self.usual(verb, content)

    def usual(self, verb: str, content: bytes) -> Answer:
        match verb:
            case "hello":
                return Answer(welcome=Welcome(client=self.world.client, beat_s=3600))
            case "sync":
                mail = tuple(self.world.sign(one) for one in self.open_mail)
                return Answer(synced=Synced(mail=mail, receipts=tuple(self.receipts)))
            case "grant":
                request = GrantRequest.model_validate_json(content)
                method = "GET" if request.purpose == "download" else "PUT"
                when = datetime(2030, 1, 1, tzinfo=UTC)
                url = f"http://store/{request.blob.digest}"
                return Answer(grant=Grant(method=method, url=url, expires=when))
            case "submit":
                manifest = Submission.model_validate_json(content).content()
                stored = Stored(
                    session=manifest.session,
                    round=manifest.round,
                    attempt=manifest.attempt,
                    sequence=1,
                    update=manifest.update.digest,
                )
                return Answer(stored=stored)
            case _:
                return Answer(noted=Noted())

    def said(self, verb: str) -> list[bytes]:
        return [content for one, content in self.asked if one == verb]

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not condition():
                self.changed.clear()
                try:
                    await asyncio.wait_for(self.changed.wait(), 0.01)
                except TimeoutError:
                    continue

    def post(self, mail: Mail | CommandMail) -> None:
        self.hear(self.world.sign(mail).to_bytes())

    async def ready(self) -> None:
        await self.until(lambda: self.said("sync"))
        await asyncio.sleep(0)


def options(world: Any, **more: Any) -> Options:
    given = {"backoff_min_s": 0.001, "backoff_max_s": 0.01, "patience_s": 5}
    return Options(credentials=world.credentials, **(given | more))


def train(model: Any, settings: Any) -> Any:
    model["w"] += settings["lr"]
    return model, 5, {"loss": 0.5}


@asynccontextmanager
async def running(services: Services, trainer: Trainer, **more: Any) -> AsyncIterator[Client]:
    client = Client(trainer, options(services.world, **more), line=services)
    async with asyncio.TaskGroup() as group:
        run = group.create_task(client.run())
        try:
            await services.ready()
            yield client
        finally:
            client.stop()
            async with asyncio.timeout(WAIT_S):
                await run
