"""The client's line to the bus, on a real nats-server that is killed and comes back."""

import asyncio
import base64
import gc
import hashlib
import json
import logging
import shutil
import signal
import sys
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import nats
import numpy as np
import pytest
from Crypto.PublicKey import ECC
from Crypto.Signature import eddsa
from fedbus import (
    BusAway,
    Client,
    Model,
    NotPermitted,
    Options,
    Settings,
    Trainer,
    _tensorfile,
    _transport,
)
from fedbus._keys import Keys
from fedbus._transport import Bus
from fedbus_local import ports
from fedbus_schemas import nkeys, signing, subjects
from fedbus_schemas.asks import VERBS, Answer, Beat, Noted, Stored, Sync, Synced, Welcome
from fedbus_schemas.credentials import Credentials
from fedbus_schemas.tasks import Fate, Mail, ModelToFetch, Receipt, SignedMail, TrainTask
from fedbus_schemas.updates import Submission
from nats.aio.client import Client as Nats
from nats.aio.msg import Msg

pytestmark = pytest.mark.servers

PROJECT = "demo"
WAIT_S = 15


def seed() -> bytes:
    return ECC.generate(curve="Ed25519").seed


class Server:
    """One nats-server that knows one device and one service."""

    def __init__(self, folder: Path, device: str) -> None:
        self.port = ports.choose(ports.LOOPBACK, set())
        self.websocket = ports.choose(ports.LOOPBACK, {self.port})
        self.config = folder / "nats.conf"
        self.configure(device)
        self.process: asyncio.subprocess.Process | None = None

    def configure(self, device: str) -> None:
        self.config.write_text(
            f"""listen: "127.0.0.1:{self.port}"
websocket {{ listen: "127.0.0.1:{self.websocket}", no_tls: true }}
authorization {{ users: [
  {{ user: service, password: service }}
  {{ nkey: {device}, permissions: {{
      publish: [{", ".join(f"fl.{PROJECT}.ask.{device}.{verb}" for verb in VERBS)}]
      subscribe: ["_INBOX.{device}.>", "fl.{PROJECT}.task.{device}.*"] }} }} ] }}
"""
        )

    async def start(self) -> None:
        binary = Path(sys.executable).with_name("nats-server")
        self.process = await asyncio.create_subprocess_exec(
            str(binary) if binary.exists() else str(shutil.which("nats-server")),
            "-c",
            str(self.config),
            stderr=asyncio.subprocess.DEVNULL,
        )

    async def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        await self.process.wait()
        self.process = None

    def url(self, scheme: str) -> str:
        port = self.websocket if scheme == "ws" else self.port
        return f"{scheme}://127.0.0.1:{port}"

    async def service(self) -> Nats:
        url = f"nats://service:service@127.0.0.1:{self.port}"
        return await nats.connect(url, reconnect_time_wait=0.05, max_reconnect_attempts=-1)


CONTROLLER = ECC.generate(curve="Ed25519")
TRUSTED = signing.encode(CONTROLLER.public_key().export_key(format="raw"))


@pytest.fixture
def credentials() -> Credentials:
    return Credentials(
        project=PROJECT,
        name="site-1",
        servers=("nats://127.0.0.1:1",),
        device_seed=nkeys.user_seed(seed()),
        payload_seed=signing.encode(seed()),
        trust=(TRUSTED,),
    )


@pytest.fixture
def keys(credentials: Credentials) -> Keys:
    return Keys(credentials)


@pytest.fixture
async def server(tmp_path: Path, keys: Keys) -> AsyncIterator[Server]:
    server = Server(tmp_path, keys.device)
    await server.start()
    yield server
    if server.process is not None:
        await server.kill()


def bus(server: Server, keys: Keys, url: str | None = None) -> Bus:
    options = Options(credentials="unused", ask_timeout_s=2, backoff_min_s=0.05, backoff_max_s=0.2)
    url = url or f"nats://127.0.0.1:{server.port}"
    return Bus(project=PROJECT, name="site-1", servers=(url,), keys=keys, options=options)


class Heard:
    def __init__(self) -> None:
        self.mail: asyncio.Queue[bytes] = asyncio.Queue()
        self.connections: asyncio.Queue[int] = asyncio.Queue()
        self.count = 0

    async def attend(self) -> None:
        self.count += 1
        self.connections.put_nowait(self.count)
        await asyncio.Event().wait()


async def answer_beats(service: Nats, keys: Keys) -> None:
    async def on_beat(message: Msg) -> None:
        await message.respond(Answer(noted=Noted()).to_bytes())

    await service.subscribe(subjects.ask(PROJECT, keys.device, "beat"), cb=on_beat)
    await settled(service)


async def settled(service: Nats) -> None:
    """Return when the server knows a subscription: nats-py's first PING may overtake it."""
    await service.flush()
    await service.flush()


@pytest.mark.parametrize("scheme", ["nats", "ws"])
async def test_mail_comes_and_questions_are_answered(
    server: Server, keys: Keys, scheme: str
) -> None:
    heard, line = Heard(), bus(server, keys, server.url(scheme))
    async with asyncio.TaskGroup() as group, asyncio.timeout(WAIT_S):
        serving = group.create_task(line.serve(heard.mail.put_nowait, heard.attend))
        await heard.connections.get()
        service = await server.service()
        with pytest.raises(BusAway, match="nobody"):
            await line.ask("beat", Beat().to_bytes())
        await answer_beats(service, keys)
        answer = await line.ask("beat", Beat().to_bytes())
        assert answer.noted is not None
        await service.publish(subjects.task(PROJECT, keys.device, "s-1"), b"mail")
        assert await heard.mail.get() == b"mail"
        await service.close()
        serving.cancel()


@pytest.mark.parametrize("scheme", ["nats", "ws"])
async def test_a_killed_server_that_comes_back_is_found_again(
    server: Server, keys: Keys, scheme: str
) -> None:
    heard, line = Heard(), bus(server, keys, server.url(scheme))
    async with asyncio.TaskGroup() as group, asyncio.timeout(WAIT_S):
        serving = group.create_task(line.serve(heard.mail.put_nowait, heard.attend))
        assert await heard.connections.get() == 1
        for number in (2, 3):
            asking = group.create_task(outcome(line))
            await asyncio.sleep(0.05)
            await server.kill()
            assert isinstance(await asking, BusAway)
            await asyncio.sleep(0.3)
            await server.start()
            assert await heard.connections.get() == number
        service = await server.service()
        await answer_beats(service, keys)
        await line.ask("beat", Beat().to_bytes())
        await service.publish(subjects.task(PROJECT, keys.device, "s-1"), b"after")
        assert await heard.mail.get() == b"after"
        await service.close()
        serving.cancel()
    gc.collect()  # an HTTP session that nobody closed complains now


async def outcome(line: Bus) -> BaseException:
    """Ask until the line is lost; that nobody answers yet is no loss."""
    while True:
        try:
            await line.ask("beat", json.dumps({}).encode())
        except BusAway as error:
            if "nobody" not in str(error):
                return error


async def test_a_server_that_hangs_is_noticed_and_found_again(
    server: Server, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_transport, "PING_INTERVAL_S", 0.1)
    heard, line = Heard(), bus(server, keys)
    async with asyncio.TaskGroup() as group, asyncio.timeout(WAIT_S):
        serving = group.create_task(line.serve(heard.mail.put_nowait, heard.attend))
        assert await heard.connections.get() == 1
        assert server.process is not None
        server.process.send_signal(signal.SIGSTOP)
        with pytest.raises(BusAway):
            await line.ask("beat", Beat().to_bytes())
        await asyncio.sleep(0.5)
        server.process.send_signal(signal.SIGCONT)
        assert await heard.connections.get() == 2
        serving.cancel()


async def test_a_forbidden_question_fails_at_once_and_says_so(server: Server, keys: Keys) -> None:
    heard, line = Heard(), bus(server, keys)
    async with asyncio.TaskGroup() as group, asyncio.timeout(WAIT_S):
        serving = group.create_task(line.serve(heard.mail.put_nowait, heard.attend))
        await heard.connections.get()
        with pytest.raises(NotPermitted, match="does not let this device publish"):
            await line.ask("other", b"{}")
        serving.cancel()


async def test_a_device_that_the_bus_refuses_waits_until_it_is_added(
    server: Server, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    await server.kill()
    server.configure(nkeys.user_public(bytes(32)))
    await server.start()
    heard, line = Heard(), bus(server, keys)
    with caplog.at_level(logging.WARNING, "fedbus"):
        async with asyncio.TaskGroup() as group, asyncio.timeout(WAIT_S):
            serving = group.create_task(line.serve(heard.mail.put_nowait, heard.attend))
            while "refuses this device" not in caplog.text:
                await asyncio.sleep(0.02)
            await server.kill()
            server.configure(keys.device)
            await server.start()
            assert await heard.connections.get() == 1
            serving.cancel()


CLIENT = "c" + "a" * 16


class Services:
    """The servers' side, as little of it as one round needs. Its mail is the same after a restart."""

    def __init__(self, keys: Keys) -> None:
        self.device = keys.device
        self.mail: list[SignedMail] = []
        self.said: dict[str, list[bytes]] = {}
        self.heard = asyncio.Event()

    def post(
        self, number: int, *, tasks: tuple[TrainTask, ...], receipts: tuple[Receipt, ...]
    ) -> bytes:
        mail = Mail(
            project=PROJECT,
            session="s-1",
            number=number,
            device=self.device,
            client=CLIENT,
            tasks=tasks,
            receipts=receipts,
        )
        text = mail.to_bytes().decode()
        signature = eddsa.new(CONTROLLER, "rfc8032").sign(signing.message(signing.MAIL, text))
        signed = SignedMail(mail=text, key=TRUSTED, signature=signing.encode(signature))
        self.mail = [signed]
        return signed.to_bytes()

    async def serve(self, service: Nats) -> None:
        await service.subscribe(subjects.ask(PROJECT, self.device, "*"), cb=self.on_ask)
        await settled(service)

    async def on_ask(self, message: Msg) -> None:
        verb = message.subject.rsplit(".", 1)[-1]
        self.said.setdefault(verb, []).append(message.data)
        self.heard.set()
        match verb:
            case "hello":
                answer = Answer(welcome=Welcome(client=CLIENT, beat_s=0.2))
            case "sync":
                answer = Answer(synced=Synced(mail=tuple(self.mail)))
            case "submit":
                manifest = Submission.model_validate_json(message.data).content()
                digest = manifest.update.digest
                stored = Stored(session="s-1", round=1, attempt=1, sequence=1, update=digest)
                answer = Answer(stored=stored)
            case _:
                answer = Answer(noted=Noted())
        await message.respond(answer.to_bytes())

    async def until(self, verb: str, count: int) -> bytes:
        while len(self.said.get(verb, [])) < count:
            self.heard.clear()
            await self.heard.wait()
        return self.said[verb][count - 1]


def task() -> TrainTask:
    file = _tensorfile.write({"w": np.zeros(3, np.float32)})
    digest = hashlib.sha256(file).hexdigest()
    inline = base64.b64encode(file).decode()
    return TrainTask(
        round=1,
        attempt=1,
        model=ModelToFetch(digest=digest, size=len(file), inline=inline),
        settings={"lr": 0.5},
        seed=1,
        deadline=datetime(2030, 1, 1, tzinfo=UTC),
        weight_max=100,
        inline_bytes_max=65536,
        trace_id="ab" * 16,
    )


async def test_a_round_goes_on_though_the_bus_dies_while_the_client_trains(
    server: Server, keys: Keys, credentials: Credentials
) -> None:
    began, go_on = threading.Event(), threading.Event()
    trained = []

    def train(model: Model, settings: Settings) -> tuple[Model, int, dict[str, float]]:
        trained.append(settings.round)
        began.set()
        go_on.wait(WAIT_S)
        model["w"] += settings["lr"]
        return model, 10, {"loss": 0.5}

    url = f"nats://127.0.0.1:{server.port}"
    options = Options(
        credentials=credentials.model_copy(update={"servers": (url,)}),
        ask_timeout_s=1,
        backoff_min_s=0.05,
        backoff_max_s=0.2,
    )
    client = Client(Trainer(train), options)
    services = Services(keys)
    async with asyncio.TaskGroup() as group, asyncio.timeout(2 * WAIT_S):
        run = group.create_task(client.run())
        await asyncio.sleep(0.3)  # the client is there before anybody answers
        service = await server.service()
        await services.serve(service)
        await services.until("sync", 1)
        mail = services.post(1, tasks=(task(),), receipts=())
        await service.publish(subjects.task(PROJECT, keys.device, "s-1"), mail)
        await asyncio.to_thread(began.wait, WAIT_S)
        await server.kill()
        go_on.set()
        await asyncio.sleep(1)
        await server.start()
        submission = await services.until("submit", 1)
        await services.until("sync", 2)
        pending = Sync.model_validate_json(services.said["sync"][-1]).pending
        assert {one.round for one in pending} <= {1}
        counted = Receipt(round=1, attempt=1, fate=Fate.COUNTED)
        mail = services.post(2, tasks=(), receipts=(counted,))
        await service.publish(subjects.task(PROJECT, keys.device, "s-1"), mail)
        await services.until("beat", len(services.said.get("beat", [])) + 2)
        await server.kill()
        await server.start()
        await services.until("sync", 3)
        client.stop()
        await run
        await service.close()
    assert trained == [1]
    assert set(services.said["submit"]) == {submission}
    assert len(set(services.said["hello"])) == 1
    assert Sync.model_validate_json(services.said["sync"][-1]).pending == ()
