"""Whole federations for tests: a running stack, SDK clients on this process's loop, and what must hold after.

    async with federation(stack, clients=3) as fed:
        session = await fed.start(TINY, rounds=3)
        await fed.ended(session)
        await fed.assert_sound(session)

Every federation is a project of its own, so many can share one stack. Waits are for events of the api's
stream (`Story`), each within a bound.
"""

import asyncio
import json
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

import fedbus
import httpx
from fedbus.trainer import Packages
from fedbus_auditor.api import Access, Api
from fedbus_auditor.export import bundle
from fedbus_auditor.signatures import check
from fedbus_core.aggregation.tensorfile import write
from fedbus_core.audit.bundle import Bundle, log_name
from fedbus_core.audit.chain import SIGNED
from fedbus_core.audit.replay import replay
from fedbus_core.audit.verify import verify
from fedbus_core.rounds.log import read_entry
from fedbus_local.stack import LocalStack
from fedbus_sandbox.host import run
from fedbus_schemas.credentials import Credentials
from fedbus_schemas.events import AnyEvent, RoundCompleted, RoundOpened

from tests.trainers import Gate, trainer

Json: TypeAlias = Any  # what the api answers; tests read it as a user would

WAIT_S = 60.0
"""The bound of every wait. Far above what anything takes, so that a busy machine fails no test."""
RECONNECT_S = 0.05
LOOK_S = 0.02
HTTP_TIMEOUT_S = 30.0
ENDS = {
    "session.completed.v1": "completed",
    "session.failed.v1": "failed",
    "session.stopped.v1": "stopped",
}


@dataclass(frozen=True, slots=True)
class Happening:
    """One event of the stream. `number` is its id in the stream, none for a live hint."""

    kind: str
    number: int | None
    content: Json

    @property
    def data(self) -> Json:
        """What the event says."""
        return self.content.get("data", self.content)

    @property
    def time_s(self) -> float:
        """When the bus stored it."""
        return datetime.fromisoformat(self.content["time"]).timestamp()


class Story:
    """What a session's event stream told so far."""

    def __init__(self) -> None:
        self.happenings: list[Happening] = []
        self._news = asyncio.Condition()

    async def follow(self, http: httpx.AsyncClient, session: str) -> None:
        """Read the stream until cancelled; whenever it breaks, go on after the last id."""
        while True:
            last = max((one.number or 0 for one in self.happenings), default=0)
            try:
                async for happening in read_events(http, session, last):
                    async with self._news:
                        self.happenings.append(happening)
                        self._news.notify_all()
            except httpx.TransportError:
                pass
            await asyncio.sleep(RECONNECT_S)

    async def until(self, holds: Callable[[], object], what: str, within_s: float = WAIT_S) -> None:
        """Return when `holds` does; it is asked again after every event."""
        try:
            async with asyncio.timeout(within_s), self._news:
                await self._news.wait_for(lambda: bool(holds()))
        except TimeoutError:
            seen = [f"{one.kind} {_brief(one.data)}" for one in self.happenings]
            raise AssertionError(f"{what}: not within {within_s:g} s; seen: {seen}") from None

    def all(self, kind: str) -> list[Happening]:
        """Give the events of a type, in order."""
        return [one for one in self.happenings if one.kind == kind]

    def of_round(self, kind: str, number: int) -> list[Happening]:
        """Give the events of a type that belong to a round."""
        return [one for one in self.all(kind) if one.data["round"] == number]

    def stored(self, number: int) -> set[str]:
        """Name the clients with an update stored for a round."""
        return {one.data["client"] for one in self.of_round("update.stored", number)}

    @property
    def end(self) -> str:
        """How the session ended, "" while it goes on."""
        for one in reversed(self.happenings):
            if one.kind in ENDS:
                return ENDS[one.kind]
            if one.kind == "session.extended.v1":
                return ""
        return ""


async def read_events(
    http: httpx.AsyncClient, session: str, after: int = 0, *, follow: bool = True
) -> AsyncIterator[Happening]:
    """Read a session's server-sent events from after an id on."""
    url = f"/v1/sessions/{session}/events"
    params = {"follow": str(follow).lower()}
    headers = {"Last-Event-ID": str(after)}
    async with http.stream("GET", url, params=params, headers=headers) as response:
        if response.is_server_error:
            raise httpx.ReadError(f"HTTP {response.status_code}")
        assert response.status_code == httpx.codes.OK
        kind, number = "", None
        async for line in response.aiter_lines():
            name, _, value = line.partition(": ")
            if name == "event":
                kind, number = value, None
            elif name == "id":
                number = int(value)
            elif name == "data":
                yield Happening(kind, number, json.loads(value))


class Site:
    """One SDK client, which can come and go."""

    def __init__(
        self,
        credentials: Credentials,
        gate: Gate,
        group: asyncio.TaskGroup,
        options: Mapping[str, Json],
    ) -> None:
        self.name = credentials.name
        self.credentials = credentials
        self._options = fedbus.Options(credentials=credentials, **options)
        self._trainer = trainer(self.name, gate)
        self._group = group
        self._client: fedbus.Client | None = None

    @property
    def client(self) -> fedbus.Client:
        """The client itself, while it takes part."""
        assert self._client is not None
        return self._client

    def come(self) -> None:
        """Connect and take part."""
        self._client = fedbus.Client(self._trainer, self._options)
        self._group.create_task(self._client.run())

    def go(self) -> None:
        """Leave."""
        if self._client is not None:
            self._client.stop()
            self._client = None


@dataclass
class Federation:
    """A project on a stack with its clients."""

    stack: LocalStack
    project: str
    http: httpx.AsyncClient
    group: asyncio.TaskGroup
    gate: Gate
    sites: list[Site]
    stories: dict[str, Story] = field(default_factory=dict)
    _added: list[fedbus.Client] = field(default_factory=list)
    _following: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The clients' names."""
        return [site.name for site in self.sites]

    def close(self) -> None:
        """Let everybody go."""
        self.gate.open()
        for site in self.sites:
            site.go()
        for client in self._added:
            client.stop()
        for following in self._following.values():
            following.cancel()

    async def add(
        self, name: str, code: fedbus.Trainer | Packages, **options: Json
    ) -> fedbus.Client:
        """Let one more client take part, with code of its own, until the federation closes."""
        [made] = await asyncio.to_thread(self.stack.make_credentials, [name], self.project)
        client = fedbus.Client(code, fedbus.Options(credentials=made, **options))
        self._added.append(client)
        self.group.create_task(client.run())
        return client

    async def online(self, count: int) -> None:
        """Return when so many clients are online."""

        async def look() -> bool:
            page = await self.ask("GET", "/v1/clients", params={"limit": 200})
            return sum(one["online"] is True for one in page["items"]) >= count

        await eventually(look, f"{count} clients are online")

    async def start(self, model: Mapping[str, Json], **settings: Json) -> str:
        """Start a session and follow it. All clients must answer in each round unless `minimum` says else."""
        uploaded = await self.ask("POST", "/v1/models", content=write(model))
        body = {
            "model": uploaded["digest"],
            "minimum": len(self.sites),
            "round_timeout_s": 120,
            "seed": 7,
            **settings,
        }
        with self.gate.shut():  # until the stream is followed: hints of updates are told once
            session: str = (await self.ask("POST", "/v1/sessions", json=body))["session"]
            story = self.stories[session] = Story()
            self._following[session] = self.group.create_task(story.follow(self.http, session))
            await story.until(lambda: story.happenings, f"{session} is followed")
        return session

    def leave(self, session: str) -> None:
        """Follow a session no longer: an api has a limit of open event streams."""
        self._following.pop(session).cancel()
        del self.stories[session]

    async def order(self, session: str, verb: str, **body: Json) -> Json:
        """Give an order: pause, resume, stop, extend."""
        return await self.ask("POST", f"/v1/sessions/{session}/{verb}", json=body or None)

    async def show(self, session: str) -> Json:
        """Give the session's view."""
        return await self.ask("GET", f"/v1/sessions/{session}")

    async def rounds(self, session: str) -> list[Json]:
        """Give the views of the rounds' attempts, the oldest first."""
        page = await self.ask("GET", f"/v1/sessions/{session}/rounds", params={"limit": 200})
        return list(reversed(page["items"]))

    async def rows(self, path: str, **query: Json) -> list[Json]:
        """Give all items of a list, the oldest first."""
        found: list[Json] = []
        asked = {"limit": 500, "sort": "id", **query}
        while True:
            page = await self.ask("GET", path, params=asked)
            found += page["items"]
            if page.get("next") is None:
                return found
            asked["cursor"] = page["next"]

    async def pseudonym(self, name: str) -> str:
        """Give the pseudonym of the one client with this name."""
        [found] = (await self.ask("GET", "/v1/clients", params={"name": name}))["items"]
        client: str = found["client"]
        return client

    async def ask(self, method: str, path: str, **more: Json) -> Json:
        """Ask the api; while it or a server of its is away, again."""

        async def answer() -> Json:
            try:
                response = await self.http.request(method, path, **more)
            except httpx.TransportError:
                return None
            if response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
                return None
            assert response.is_success, response.text
            return response.json()

        return await eventually(answer, f"{method} {path}")

    async def ended(self, session: str, how: str = "completed") -> str:
        """Wait for a session's end and give the SHA-256 of its last model."""
        story = self.stories[session]
        await story.until(lambda: story.end, f"{session} ends")
        assert story.end == how, story.happenings[-1]
        view = await self.show(session)
        assert view["phase"] == how
        model: str = view["model"]
        return model

    async def assert_sound(self, session: str) -> list[AnyEvent]:
        """Verify and replay a session from its exported bundle; give its log's events.

        Also: rounds are complete and in order, and nobody counts twice or uninvited in one.
        """
        return await asyncio.to_thread(_sound, self.stack, self.project, session)


@asynccontextmanager
async def federation(
    stack: LocalStack,
    clients: int,
    *,
    online: bool = True,
    websocket: bool = False,
    **options: Json,
) -> AsyncIterator[Federation]:
    """Give a new project with so many clients; all of them are online unless `online` is false.

    `options` are the clients'. With `websocket` they reach NATS that way.
    """
    project = f"p-{secrets.token_hex(4)}"
    names = [f"site-{number:03}" for number in range(1, clients + 1)]
    made = await asyncio.to_thread(stack.make_credentials, names, project, websocket=websocket)
    gate = Gate()
    failure: Exception | None = None
    async with (
        httpx.AsyncClient(
            base_url=stack.api_url,
            headers={"Authorization": f"Bearer {stack.api_token}"},
            params={"project": project},
            timeout=HTTP_TIMEOUT_S,
            limits=httpx.Limits(max_keepalive_connections=0),
        ) as http,
        asyncio.TaskGroup() as group,
    ):
        sites = [Site(one, gate, group, options) for one in made]
        fed = Federation(stack, project, http, group, gate, sites)
        if online:
            for site in sites:
                site.come()
        try:
            if online:
                await fed.online(clients)
            yield fed
        except Exception as error:  # noqa: BLE001  # raised below, outside of the group
            failure = error
        finally:
            fed.close()
    if failure is not None:
        raise failure


async def eventually(
    look: Callable[[], Awaitable[Json]], what: str, within_s: float = WAIT_S
) -> Json:
    """Look again and again until there is something, for what no event tells."""
    deadline_s = time.monotonic() + within_s
    while not (found := await look()):
        assert time.monotonic() < deadline_s, f"{what}: not within {within_s:g} s"
        await asyncio.sleep(LOOK_S)
    return found


class Lines(logging.Handler):
    """What the clients of this process logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self.lines.append(record.getMessage())

    async def until(self, text: str, count: int) -> None:
        """Return when so many lines say this."""

        async def look() -> bool:
            return sum(text in line for line in self.lines) >= count

        await eventually(look, f"{count} lines with {text!r}")


@dataclass(frozen=True, slots=True)
class Bytes:
    """A bundle in memory."""

    content: bytes

    @property
    def size(self) -> int:
        return len(self.content)

    def read_at(self, offset: int, length: int) -> bytes:
        return self.content[offset : offset + length]


def _sound(stack: LocalStack, project: str, session: str) -> list[AnyEvent]:
    access = Access(stack.api_url, stack.layout.keys / "api.token")
    with Api(access, project, session) as source:
        _await_heads(source)
        reader = Bytes(b"".join(bundle(source, project, session)))
    report = verify(reader, stack.trust, check)
    assert report.ok, report.findings
    again = replay(reader, batch_size=2, order_seed=5, run=run)
    assert again.ok, again
    events = _logged(Bundle.open(reader))
    _assert_rounds(events)
    return events


def _await_heads(source: Api) -> None:
    """An entry is signed a moment after it; one whose performer died, when it was delivered again."""
    deadline_s = time.monotonic() + WAIT_S
    entries = [read_entry(one.data) for one in source.log()]
    wanted = {
        entry.number
        for entry, events in entries
        if any(isinstance(event, SIGNED) for event in events)
    }
    while missing := wanted - {
        json.loads(json.loads(one.data)["head"])["number"] for one in source.heads()
    }:
        assert time.monotonic() < deadline_s, f"entries {sorted(missing)} were not signed"
        time.sleep(LOOK_S)


def _logged(content: Bundle) -> list[AnyEvent]:
    events: list[AnyEvent] = []
    for number in content.logged:
        data = content.content(log_name(number))
        assert data is not None
        events += read_entry(data)[1]
    return events


def _assert_rounds(events: Sequence[AnyEvent]) -> None:
    completed = [event for event in events if isinstance(event, RoundCompleted)]
    assert [event.round for event in completed] == list(range(1, len(completed) + 1))
    opened = {(one.round, one.attempt): one for one in events if isinstance(one, RoundOpened)}
    for event in completed:
        members = {one.client for one in opened[event.round, event.attempt].cohort}
        assert sorted(set(event.counted)) == list(event.counted)
        assert set(event.counted) <= members
        assert len(event.counted) >= opened[event.round, event.attempt].minimum


def _brief(data: Json) -> str:
    return " ".join(
        f"{name}={data[name]}" for name in ("round", "attempt", "reason") if name in data
    )
