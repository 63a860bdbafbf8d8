"""A controller, a combiner and SDK clients in one process, over servers in memory.

All of it is the production code; only the servers are the memory twins. Nothing listens on a port, and
nothing stays behind.
"""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import fedbus
import fedbus_combiner.main
import fedbus_controller.main
import structlog
from fedbus._asking import Line
from fedbus._blobs import Store
from fedbus._content import Content, chunks
from fedbus._keys import Keys
from fedbus._models import Incoming
from fedbus.errors import BusAway, StoreAway
from fedbus_combiner.settings import CombinerSettings
from fedbus_controller.settings import ControllerSettings, SigningSection
from fedbus_runtime.connections import Connections
from fedbus_runtime.errors import NoAnswer
from fedbus_runtime.memory import MemoryWorld
from fedbus_runtime.registry import ClientRegistry
from fedbus_runtime.service import S, Service
from fedbus_runtime.signing_keys import Signer
from fedbus_runtime.system_clock import SystemClock
from fedbus_schemas import nkeys, signing, subjects
from fedbus_schemas.asks import Answer, Grant
from fedbus_schemas.credentials import Credentials
from fedbus_schemas.registry import ClientRecord

from fedbus_local import keys

PROJECT = "test"
ASK_WAIT_S = 5.0
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


@contextmanager
def quiet() -> Iterator[None]:
    """Let the services say warnings and errors only."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    try:
        yield
    finally:
        structlog.configure(**before)


class _InMemory(Service[S]):
    """A service in this process."""

    def __init__(self, settings: S, ports: Connections, tasks: asyncio.TaskGroup) -> None:
        self.settings = settings
        self.connections = ports
        self.tracing = None
        self._tasks = tasks
        self._loops = []
        self._looks = []
        self._stopping = False


class Stack:
    """The servers in memory with their services, and whoever joins."""

    def __init__(self, tasks: asyncio.TaskGroup, folder: Path) -> None:
        self.world = MemoryWorld(SystemClock())
        self.ports = self.world.connections()
        self._tasks = tasks
        self._clients: list[fedbus.Client] = []
        self._services: list[Service[ControllerSettings] | Service[CombinerSettings]] = []
        self._seed_file = folder / "signing.seed"
        self._seed_file.write_text(signing.encode(hashlib.sha256(b"controller").digest()))

    async def start(self) -> None:
        """Start the services."""
        controller = _InMemory(
            ControllerSettings(signing=SigningSection(seed_file=self._seed_file)),
            self.ports,
            self._tasks,
        )
        combiner = _InMemory(CombinerSettings(), self.ports, self._tasks)
        self._services += [controller, combiner]
        await fedbus_controller.main.body(controller)
        await fedbus_combiner.main.body(combiner)

    async def join(self, name: str, trainer: fedbus.Trainer) -> str:
        """Let a client take part, and give its pseudonym: always the same one for a name."""
        credentials = self._credentials(name)
        line = _Line(self.world, keys.user_of(credentials.device_seed))
        client = fedbus.Client(
            trainer,
            fedbus.Options(credentials=credentials),
            line=line,
            store=_Store(self.world),
        )
        record = ClientRecord(
            device=line.device,
            client=_pseudonym(name),
            name=name,
            key=Keys(credentials).public,
            since=self.ports.clock.now(),
        )
        await ClientRegistry(self.ports.streams).enter(PROJECT, record)
        self._clients.append(client)
        self._tasks.create_task(client.run())
        return record.client

    def stop(self) -> None:
        """Let all go. A function that runs is told, not waited for."""
        for client in self._clients:
            client.stop()
        for service in self._services:
            service.stop_loops()

    def _credentials(self, name: str) -> Credentials:
        return Credentials(
            project=PROJECT,
            name=name,
            servers=("nats://in-memory",),
            device_seed=nkeys.user_seed(hashlib.sha256(f"device {name}".encode()).digest()),
            payload_seed=signing.encode(hashlib.sha256(f"payload {name}".encode()).digest()),
            trust=(Signer(self._seed_file).public,),
        )


class _Line:
    """A client's line to the bus in memory."""

    def __init__(self, world: MemoryWorld, device: str) -> None:
        self.device = device
        self._wire = world.bus.wire_of(device)

    async def serve(
        self, hear: Callable[[bytes], None], attend: Callable[[], Coroutine[None, None, None]]
    ) -> None:
        """Hear mail, and attend."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen(hear))
            await asyncio.sleep(0)
            group.create_task(attend())

    async def ask(
        self, verb: str, content: bytes, trace_id: str = "", timeout_s: float | None = None
    ) -> Answer:
        """Ask once; see `fedbus._asking.Line`."""
        subject = subjects.ask(PROJECT, self.device, verb)
        try:
            return Answer.model_validate_json(
                await self._wire.request(subject, content, timeout_s or ASK_WAIT_S)
            )
        except NoAnswer as error:
            raise BusAway(str(error)) from error

    async def _listen(self, hear: Callable[[bytes], None]) -> None:
        async for message in self._wire.listen(subjects.task(PROJECT, self.device)):
            hear(message.data)


class _Store:
    """A client's way to the object store in memory."""

    def __init__(self, world: MemoryWorld) -> None:
        self._world = world

    def get(self, grant: Grant, incoming: Incoming, stop: Callable[[], bool]) -> bytearray:
        """Fetch a blob; see `fedbus._blobs.Store`."""
        status, data = self._world.blobs.send(grant.url, self._world.clock.now())
        if status != 200:
            raise StoreAway(f"the object store answered {status} to a download")
        incoming.restart()
        incoming.add(data)
        if not incoming.is_right():
            raise StoreAway("the downloaded bytes have another SHA-256 than the model")
        return incoming.data

    def put(self, grant: Grant, content: Content, stop: Callable[[], bool]) -> None:
        """Store a blob; see `fedbus._blobs.Store`."""
        data = b"".join(chunks(content))
        now = self._world.clock.now()
        status = self._world.blobs.receive(grant.url, grant.headers, data, now)
        if status not in (200, 412):
            raise StoreAway(f"the object store answered {status} to an upload")

    def close(self) -> None:
        """There is nothing to close."""


def _pseudonym(name: str) -> str:
    digest = hashlib.sha256(f"client {name}".encode()).digest()
    return "c" + "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in digest[:16])


_: tuple[type[Line], type[Store]] = (_Line, _Store)
"""The type checker sees here that they fit."""

Trainers = Sequence[fedbus.Trainer | fedbus.TrainFunction]
