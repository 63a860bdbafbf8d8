"""The bus under TLS, with a real nats-server: whom to trust, and that nobody talks us out of it."""

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fedbus._keys import Keys
from fedbus._transport import Bus
from fedbus.credentials import load, tls_of
from fedbus.errors import BadCredentials
from fedbus.options import Options
from fedbus_local import ports
from fedbus_local.deployment import Deployment, write
from fedbus_runtime.connections import tls_of as service_tls_of
from fedbus_runtime.errors import BusAway
from fedbus_runtime.nats_connection import NatsConnection, NatsOptions
from fedbus_runtime.settings import NatsSettings


@dataclass
class Served:
    folder: Path
    port: int

    @property
    def url(self) -> str:
        return f"tls://localhost:{self.port}"

    def service(self, ca: Path) -> NatsOptions:
        settings = NatsSettings(url=self.url, ca_file=ca)
        seed = (self.folder / "controller" / "controller.nk").read_text().strip()
        token = (self.folder / "controller" / "controller.jwt").read_text().strip()
        return NatsOptions(
            urls=settings.urls, name="test", seed=seed, token=token, tls=service_tls_of(settings)
        )


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    folder = tmp_path / "made"
    wanted = Deployment(
        names=["localhost"], clients=["a"], mount=str(folder / "nats"), store=str(tmp_path / "data")
    )
    write(folder, wanted)
    port = ports.choose("127.0.0.1", set())
    config = folder / "nats" / "nats.conf"
    config.chmod(0o600)
    text = config.read_text().replace('"0.0.0.0:4222"', f'"127.0.0.1:{port}"')
    config.write_text(text.replace('http: "127.0.0.1:8222"\n', ""))
    binary = Path(sys.executable).with_name("nats-server")
    program = str(binary) if binary.exists() else str(shutil.which("nats-server"))
    process = await asyncio.create_subprocess_exec(
        program, "-c", str(config), stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    async with asyncio.timeout(20):
        while b"Server is ready" not in (line := await process.stderr.readline()):
            assert line, "nats-server ended"
    yield Served(folder, port)
    process.kill()
    await process.communicate()


async def test_a_service_signs_in_over_tls(served: Served) -> None:
    connection = await NatsConnection.open(served.service(served.folder / "controller" / "ca.pem"))
    assert connection.connected
    await connection.close()


async def test_a_service_refuses_a_server_of_another_authority(
    served: Served, tmp_path: Path
) -> None:
    write(tmp_path / "other", Deployment())
    stranger = tmp_path / "other" / "controller" / "ca.pem"
    with pytest.raises(BusAway, match="certificate verify failed"):
        await NatsConnection.open(served.service(stranger), timeout_s=5)


async def test_a_server_that_offers_no_tls_gets_no_word(served: Served) -> None:
    """Somebody between answers in the clear, as the library would accept it without handshake first."""
    heard = bytearray()

    async def pretend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.15.1","max_payload":1048576}\r\n')
        heard.extend(await reader.read(4096))
        writer.close()

    async with await asyncio.start_server(pretend, "127.0.0.1", 0) as liar:
        port = liar.sockets[0].getsockname()[1]
        options = Served(served.folder, port).service(served.folder / "controller" / "ca.pem")
        with pytest.raises(BusAway):
            await NatsConnection.open(options, timeout_s=5)
    assert b"CONNECT" not in heard


async def test_a_client_asks_over_tls(served: Served) -> None:
    credentials = load(served.folder / "clients" / "a.json")
    credentials = credentials.model_copy(update={"servers": (served.url,)})
    attended = asyncio.Event()

    async def attend() -> None:
        attended.set()
        await asyncio.Event().wait()

    line = Bus(
        project=credentials.project,
        name=credentials.name,
        servers=credentials.servers,
        keys=Keys(credentials),
        options=Options(credentials=credentials),
        tls=tls_of(credentials),
    )
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        serving = group.create_task(line.serve(lambda _: None, attend))
        await attended.wait()
        serving.cancel()


def test_a_certificate_that_is_none_is_told(served: Served) -> None:
    credentials = load(served.folder / "clients" / "a.json")
    broken = credentials.model_copy(update={"ca": "-----BEGIN CERTIFICATE-----\nxx\n"})
    with pytest.raises(BadCredentials, match="`ca`"):
        tls_of(broken)
