"""The clients of a simulated world: the SDK's own core on a line through the memory wire, and liars."""

import asyncio
import base64
import hashlib
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from fedbus import Client, Options, Trainer, _tensorfile
from fedbus._blobs import LinkBroke
from fedbus._content import Content, chunks
from fedbus._models import Incoming
from fedbus._store import Kept
from fedbus._updates import Update, UpdateKey
from fedbus.errors import BusAway, StoreAway
from fedbus_runtime.errors import NoAnswer
from fedbus_schemas import signing, subjects
from fedbus_schemas.asks import Answer, Grant, Hello, Sync
from fedbus_schemas.codec import Unreadable, read
from fedbus_schemas.credentials import Credentials
from fedbus_schemas.models import BlobRef
from fedbus_schemas.tasks import Mail, SignedMail, TrainTask
from fedbus_schemas.updates import Manifest, Submission

from tests.simulation.ports import SimClock, SimWire
from tests.simulation.processes import Process
from tests.simulation.seams import SimKeys, device_of, public_key

if TYPE_CHECKING:
    from tests.simulation.world import World

PROJECT = "default"
TRUST = public_key("controllers")
CREDENTIALS = {
    "project": PROJECT,
    "servers": ("nats://simulated:1",),
    "device_seed": "SU" + "A" * 56,
    "payload_seed": "A" * 43,
    "trust": (TRUST,),
}
RESYNC_S = 15.0
ASK_TIMEOUT_S = 2.0


def step_of(name: str, session: str, number: int) -> np.ndarray:
    """What a client adds to the model in a round: a function of its name, so that every run adds the same."""
    noise = hashlib.sha256(f"{name}/{session}/{number}".encode()).digest()
    return np.frombuffer(noise[:2], np.uint8).astype(np.float32) / np.float32(997)


def weight_of(name: str, number: int) -> int:
    return 1 + hashlib.sha256(f"{name}/{number}".encode()).digest()[0] % 9


def trainer(name: str) -> Trainer:
    """A trainer that is a function of its client's name."""

    def train(model: Any, settings: Any) -> Any:
        model["w"] += step_of(name, settings.session, settings.round)
        return model, weight_of(name, settings.round), {"loss": 0.1 * settings.round}

    def validate(model: Any, settings: Any) -> Any:
        return 3, {"accuracy": float(np.abs(model["w"]).sum())}

    return Trainer(train, validate)


def credentials(name: str) -> Credentials:
    return Credentials(name=name, **CREDENTIALS)


class SimKept:
    """As `fedbus._store.Kept`: the folder of a client, or its memory."""

    def __init__(self, content: dict[UpdateKey, tuple[Update, bytes | None]]) -> None:
        self.content = content

    def load(self) -> list[Update]:
        return [update for update, _ in self.content.values()]

    def keep(self, update: Update) -> Update:
        self.content[update.key] = (replace(update, file=None), update.file)
        return self.content[update.key][0]

    def file(self, update: Update) -> bytes:
        file = self.content[update.key][1]
        if file is None:
            raise FileNotFoundError(str(update.key))
        return file

    def drop(self, key: UpdateKey) -> None:
        self.content.pop(key, None)


_: type[Kept] = SimKept


class SimLine:
    """As `fedbus._asking.Line`: the way of one client to the bus. The world remembers what it was told."""

    def __init__(self, world: "World", process: Process) -> None:
        self._world = world
        self._process = process
        self.device = device_of(process.name)
        self._wire = SimWire(world, process, world.memory.bus.wire_of(self.device))

    async def serve(
        self, hear: Callable[[bytes], None], attend: Callable[[], Coroutine[None, None, None]]
    ) -> None:
        link = self._process.bus
        while True:
            while link.is_cut or self._world.server.away:
                await asyncio.sleep(0.1)
            link.lost.clear()
            async with asyncio.TaskGroup() as group:
                running = (group.create_task(self._listen(hear)), group.create_task(attend()))
                await link.lost.wait()
                for one in running:
                    one.cancel()
            await asyncio.sleep(0.1 + 0.2 * self._process.chance.random())

    async def _listen(self, hear: Callable[[bytes], None]) -> None:
        async for message in self._wire.listen(subjects.task(PROJECT, self.device)):
            self._world.told_mail(self._process, message.data)
            hear(message.data)

    async def ask(
        self, verb: str, content: bytes, trace_id: str = "", timeout_s: float | None = None
    ) -> Answer:
        subject = subjects.ask(PROJECT, self.device, verb)
        try:
            data = await self._wire.request(subject, content, timeout_s or ASK_TIMEOUT_S)
        except NoAnswer as error:
            raise BusAway(str(error)) from error
        answer = Answer.model_validate_json(data)
        self._world.told(self._process, answer)
        return answer


async def honest(world: "World", process: Process) -> None:
    """Run the SDK's client."""
    options = Options(
        credentials=credentials(process.name),
        ask_timeout_s=ASK_TIMEOUT_S,
        patience_s=20,
        backoff_min_s=0.05,
        backoff_max_s=2.0,
        resync_s=RESYNC_S,
    )
    process.transfers = Transfers(world, process)
    client = Client(trainer(process.name), options, line=SimLine(world, process))
    await client.run()


class Transfers:
    """As `fedbus._blobs.Blobs`: a client's way to the object store. A download may break off in the middle."""

    def __init__(self, world: "World", process: Process) -> None:
        self._world = world
        self._process = process

    def get(self, grant: Grant, incoming: Incoming, stop: Callable[[], bool]) -> bytearray:
        self._demand()
        status, data = self._world.blobs.send(grant.url, SimClock().now())
        self._process.recording.call(self._process.name, f"GET {grant.url[:40]}", status)
        if status != 200:
            raise StoreAway(f"the store answers {status}")
        missing = data[incoming.place :]
        if self._is_unlucky():
            incoming.add(missing[: len(missing) // 2])
            raise LinkBroke("in the middle of a download")
        incoming.add(missing)
        if not incoming.is_right():
            incoming.restart()
            raise StoreAway("other bytes than the model")
        return incoming.data

    def put(self, grant: Grant, content: Content, stop: Callable[[], bool]) -> None:
        self._demand()
        data = b"".join(bytes(chunk) for chunk in chunks(content))
        status = self._world.blobs.receive(grant.url, grant.headers, data, SimClock().now())
        self._process.recording.call(self._process.name, f"PUT {grant.url[:40]}", status)
        if status not in (200, 412):
            raise StoreAway(f"the store answers {status}")
        if self._is_unlucky():
            raise LinkBroke("before the answer to an upload")

    def close(self) -> None:
        """There are no connections."""

    def _demand(self) -> None:
        if self._process.store.is_cut:
            raise StoreAway("cut off")

    def _is_unlucky(self) -> bool:
        noise = self._process.noise
        noisy = noise.until_s > asyncio.get_running_loop().time()
        return noisy and bool(self._process.chance.random() < noise.loss)


class Liar:
    """A client that follows the protocol only as far as it must to be heard."""

    def __init__(self, world: "World", process: Process) -> None:
        self._world = world
        self._process = process
        self._line = SimLine(world, process)
        self._keys = SimKeys(credentials(process.name))
        self._client = ""
        self._done: set[tuple[str, int, int]] = set()
        self.lies = {
            "nan": self._nan,
            "shape": self._shape,
            "noise": self._noise,
            "hash": self._hash,
            "weight": self._weight,
            "name": self._name,
            "signature": self._signature,
            "again": self._again,
            "equivocate": self._equivocate,
            "old_round": self._old_round,
            "no_blob": self._no_blob,
            "garbage": self._garbage,
            "borrowed": self._borrowed,
        }

    async def run(self) -> None:
        hello = Hello(
            name=self._process.name,
            key=self._keys.public,
            proof=self._keys.sign(signing.HELLO, self._keys.device),
            sdk="liar/1",
        )
        while True:
            answer = await self._ask("hello", hello.to_bytes())
            if answer is not None and answer.welcome is not None:
                self._client = answer.welcome.client
            answer = await self._ask("sync", Sync().to_bytes())
            for signed in answer.synced.mail if answer is not None and answer.synced else ():
                mail = signed.content()
                for task in mail.tasks:
                    if isinstance(task, TrainTask):
                        await self._lie(mail, task)
            await asyncio.sleep(0.3 + self._process.chance.random())

    async def _lie(self, mail: Mail, task: TrainTask) -> None:
        place = (mail.session, task.round, task.attempt)
        if place in self._done:
            return
        self._done.add(place)
        for name in self._process.chance.sample(sorted(self.lies), 3):
            self._process.recording.note(self._process.name, f"lies: {name}")
            await self.lies[name](mail, task)

    async def _ask(self, verb: str, content: bytes) -> Answer | None:
        for _ in range(4):
            try:
                return await self._line.ask(verb, content)
            except BusAway:
                await asyncio.sleep(0.2)
        return None

    def _file(self, value: float = 0.5, size: int = 2) -> bytes:
        return _tensorfile.write({"w": np.full(size, value, np.float32)})

    def _submission(
        self, mail: Mail, task: TrainTask, file: bytes, *, inline: bytes | None = None, **changes
    ) -> Submission:
        fields = {
            "project": PROJECT,
            "session": mail.session,
            "round": task.round,
            "attempt": task.attempt,
            "client": self._client or mail.client,
            "base": task.model.digest,
            "update": BlobRef(digest=hashlib.sha256(file).hexdigest(), size=len(file)),
            "weight": 3,
        }
        text = Manifest.model_validate(fields | changes).to_bytes().decode()
        return Submission(
            manifest=text,
            key=self._keys.public,
            signature=self._keys.sign(signing.MANIFEST, text),
            inline=base64.b64encode(file if inline is None else inline).decode(),
        )

    async def _send(self, submission: Submission) -> None:
        await self._ask("submit", submission.to_bytes())

    async def _nan(self, mail: Mail, task: TrainTask) -> None:
        await self._send(self._submission(mail, task, self._file(float("nan"))))

    async def _shape(self, mail: Mail, task: TrainTask) -> None:
        await self._send(self._submission(mail, task, self._file(size=3)))

    async def _noise(self, mail: Mail, task: TrainTask) -> None:
        await self._send(self._submission(mail, task, self._process.chance.randbytes(40)))

    async def _hash(self, mail: Mail, task: TrainTask) -> None:
        await self._refused(self._submission(mail, task, self._file(0.6), inline=self._file(0.7)))

    async def _weight(self, mail: Mail, task: TrainTask) -> None:
        await self._refused(self._submission(mail, task, self._file(), weight=2**40))

    async def _name(self, mail: Mail, task: TrainTask) -> None:
        await self._refused(self._submission(mail, task, self._file(), client="c" + "a" * 16))

    async def _signature(self, mail: Mail, task: TrainTask) -> None:
        honest = self._submission(mail, task, self._file())
        await self._refused(honest.model_copy(update={"signature": "A" * 86}))

    async def _again(self, mail: Mail, task: TrainTask) -> None:
        for _ in range(2):
            await self._send(self._submission(mail, task, self._file()))

    async def _equivocate(self, mail: Mail, task: TrainTask) -> None:
        for value in (0.5, 0.25):
            await self._send(self._submission(mail, task, self._file(value)))

    async def _old_round(self, mail: Mail, task: TrainTask) -> None:
        number = max(1, task.round - 1)
        await self._send(self._submission(mail, task, self._file(), round=number))

    async def _no_blob(self, mail: Mail, task: TrainTask) -> None:
        made = self._submission(mail, task, self._file())
        await self._send(made.model_copy(update={"inline": None}))

    async def _garbage(self, mail: Mail, task: TrainTask) -> None:
        for verb in ("submit", "sync", "grant", "hello", "report"):
            await self._ask(verb, self._process.chance.randbytes(30))

    async def _borrowed(self, mail: Mail, task: TrainTask) -> None:
        """Ask in another client's name: the server attests ours."""
        device = device_of("client-1")
        made = self._submission(mail, task, self._file())
        wire = SimWire(
            self._world, self._process, self._world.memory.bus.wire_of(self._line.device)
        )
        try:
            data = await wire.request(subjects.ask(PROJECT, device, "submit"), made.to_bytes(), 2.0)
        except NoAnswer:
            return
        if read(Answer, data).refusal is None:
            self._world.violate("a request in another client's name was not refused")

    async def _refused(self, submission: Submission) -> None:
        """Send what must be refused at the door, unless a first update of ours is there already."""
        answer = await self._ask("submit", submission.to_bytes())
        if answer is not None and answer.stored is not None:
            manifest = submission.content()
            self._world.violate(f"a lie was stored: {manifest.weight} {manifest.client}")


def opened(data: bytes) -> Mail | None:
    """Open a live message as a client does; None when it is not a mail of the controllers'."""
    try:
        signed = read(SignedMail, data)
        return signed.content() if signed.key == TRUST else None
    except (Unreadable, ValueError):
        return None
