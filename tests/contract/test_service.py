"""A service as a process: it waits for its servers, tells whether it is ready, and ends as it should."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import urllib3

from tests.servers import ACCESS_KEY, SECRET_KEY, Server, free_port, start_nats

pytestmark = pytest.mark.servers

WAIT_MAX_S = 15.0

PROGRAM = """
import asyncio, sys
from fedbus_runtime.consumer import consume
from fedbus_runtime.errors import SettingsFault
from fedbus_runtime.service import Service, run
from fedbus_runtime.settings import ServiceSettings
from fedbus_schemas import streams

async def body(service: Service[ServiceSettings]) -> None:
    ports = service.connections
    await ports.deliveries.prepare(streams.STREAMS, streams.CONSUMERS)

    async def handle(message):
        pass

    async def end():
        if "--raise" in sys.argv:
            raise ZeroDivisionError

    if "--fault" in sys.argv:
        raise SettingsFault("FEDBUS_THIS is missing")
    service.supervise("inputs", consume(ports.deliveries, ports.streams, streams.CONTROLLERS, handle,
        ports.clock, concurrency=4, key=lambda message: message.subject))
    if "--end" in sys.argv or "--raise" in sys.argv:
        service.supervise("short", end())

run("tried", ServiceSettings, body)
"""


class Tried:
    """One process of a service under test."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.environment = environment
        self.port = int(environment["FEDBUS_HEALTH__PORT"])
        self.program = folder / "tried.py"
        self.program.write_text(PROGRAM)
        self.log = folder / "tried.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *words: str, **changed: str) -> subprocess.Popen[bytes]:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(self.program), *words],
                env={**os.environ, **self.environment, **changed},
                stderr=log,
                stdout=log,
            )
        return self.process

    def ask(self, path: str) -> tuple[int, dict[str, object]]:
        try:
            answer = urllib3.request(
                "GET", f"http://127.0.0.1:{self.port}{path}", retries=False, timeout=2.0
            )
        except urllib3.exceptions.HTTPError:
            return 0, {}
        return answer.status, json.loads(answer.data)

    def wait_for(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_MAX_S
        while not holds():
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)

    def events(self) -> set[object]:
        return {json.loads(line)["event"] for line in self.log.read_text().splitlines()}


@pytest.fixture
def tried(tmp_path: Path, valkey_server: Server, store_server: Server) -> Iterator[Tried]:
    secret = tmp_path / "secret"
    secret.write_text(SECRET_KEY)
    service = Tried(
        tmp_path,
        {
            "FEDBUS_REDIS__URL": valkey_server.url,
            "FEDBUS_S3__ENDPOINT": store_server.url,
            "FEDBUS_S3__BUCKET": "contract",
            "FEDBUS_S3__ACCESS_KEY": ACCESS_KEY,
            "FEDBUS_S3__SECRET_KEY_FILE": str(secret),
            "FEDBUS_HEALTH__PORT": str(free_port()),
            "FEDBUS_DEVELOPMENT": "true",
        },
    )
    yield service
    if service.process is not None and service.process.poll() is None:
        service.process.kill()
        service.process.wait()


@pytest.fixture(scope="module")
def own_nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server apart: the services' consumers overlap with those of other tests."""
    nats = start_nats(tmp_path_factory.mktemp("own"))
    yield nats
    nats.kill()


def test_waits_for_its_servers_and_stops_on_a_signal(tried: Tried, tmp_path: Path) -> None:
    nats = start_nats(tmp_path)
    nats.kill()
    process = tried.start(FEDBUS_NATS__URL=nats.url)
    waiting = (503, {"ready": False, "missing": {"nats": "waited for"}})
    tried.wait_for(lambda: tried.ask("/readyz") == waiting)
    assert tried.ask("/healthz") == (200, {"alive": True})
    assert tried.ask("/else")[0] == 404
    nats.start()
    try:
        tried.wait_for(lambda: tried.ask("/readyz")[0] == 200)
        nats.kill()
        tried.wait_for(lambda: tried.ask("/readyz")[0] == 503)
        nats.start()
        tried.wait_for(lambda: tried.ask("/readyz")[0] == 200)
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_MAX_S) == 0
    finally:
        nats.kill()
    assert {"service.started", "service.ready", "service.ended"} <= tried.events()


@pytest.mark.parametrize(
    ("word", "code", "event"),
    [
        ("--end", 1, "service.loop.ended"),
        ("--raise", 1, "service.fault"),
        ("--fault", 78, "service.settings"),
    ],
)
def test_ends_when_a_loop_ends(
    tried: Tried, own_nats: Server, word: str, code: int, event: str
) -> None:
    process = tried.start(word, FEDBUS_NATS__URL=own_nats.url)
    assert process.wait(WAIT_MAX_S) == code
    assert event in tried.events()


def test_a_wrong_setting_ends_it_at_once(tried: Tried) -> None:
    process = tried.start(FEDBUS_NATS_URL="nats://x")
    assert process.wait(WAIT_MAX_S) == 78
    assert "did you mean FEDBUS_NATS__URL" in tried.log.read_text()


def test_prints_its_settings(tried: Tried) -> None:
    process = tried.start("--print-settings")
    assert process.wait(WAIT_MAX_S) == 0
    assert ACCESS_KEY not in json.loads(tried.log.read_text())["s3"].values()
