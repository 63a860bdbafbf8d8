"""The client's line to the bus, on a real nats-server that is killed and comes back."""

import asyncio
import json
import logging
import shutil
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import nats
import pytest
from Crypto.PublicKey import ECC
from fedbus import BusAway, NotPermitted, Options
from fedbus._keys import Keys
from fedbus._transport import Bus
from fedbus_schemas import nkeys, signing, subjects
from fedbus_schemas.asks import Answer, Beat, Noted
from fedbus_schemas.credentials import Credentials
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
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.config = folder / "nats.conf"
        self.configure(device)
        self.process: asyncio.subprocess.Process | None = None

    def configure(self, device: str) -> None:
        self.config.write_text(
            f"""listen: "127.0.0.1:{self.port}"
authorization {{ users: [
  {{ user: service, password: service }}
  {{ nkey: {device}, permissions: {{
      publish: ["fl.{PROJECT}.ask.{device}.beat"]
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

    async def service(self) -> Nats:
        url = f"nats://service:service@127.0.0.1:{self.port}"
        return await nats.connect(url, reconnect_time_wait=0.05, max_reconnect_attempts=-1)


@pytest.fixture
def keys() -> Keys:
    public = ECC.generate(curve="Ed25519").public_key().export_key(format="raw")
    return Keys(
        Credentials(
            project=PROJECT,
            name="site-1",
            servers=("nats://127.0.0.1:1",),
            device_seed=nkeys.user_seed(seed()),
            payload_seed=signing.encode(seed()),
            trust=(signing.encode(public),),
        )
    )


@pytest.fixture
async def server(tmp_path: Path, keys: Keys) -> AsyncIterator[Server]:
    server = Server(tmp_path, keys.device)
    await server.start()
    yield server
    if server.process is not None:
        await server.kill()


def bus(server: Server, keys: Keys) -> Bus:
    options = Options(credentials="unused", ask_timeout_s=2, backoff_min_s=0.05, backoff_max_s=0.2)
    url = f"nats://127.0.0.1:{server.port}"
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
    await service.flush()


async def test_mail_comes_and_questions_are_answered(server: Server, keys: Keys) -> None:
    heard, line = Heard(), bus(server, keys)
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


async def test_a_killed_server_that_comes_back_is_found_again(server: Server, keys: Keys) -> None:
    heard, line = Heard(), bus(server, keys)
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
        await service.publish(subjects.task(PROJECT, keys.device, "s-1"), b"after")
        assert await heard.mail.get() == b"after"
        await service.close()
        serving.cancel()


async def outcome(line: Bus) -> BaseException | None:
    try:
        while True:
            await line.ask("beat", json.dumps({}).encode())
    except BusAway as error:
        if "nobody" in str(error):
            return await outcome(line)
        return error


async def test_a_forbidden_question_fails_at_once_and_says_so(server: Server, keys: Keys) -> None:
    heard, line = Heard(), bus(server, keys)
    async with asyncio.TaskGroup() as group, asyncio.timeout(WAIT_S):
        serving = group.create_task(line.serve(heard.mail.put_nowait, heard.attend))
        await heard.connections.get()
        with pytest.raises(NotPermitted, match="does not let this device publish"):
            await line.ask("hello", b"{}")
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
