"""A client as a service: installed below a folder, started as its unit says, counted, and stopped."""

import asyncio
import os
import re
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import entry_points
from pathlib import Path

from fedbus.cli import GROUP, gather
from fedbus.gateway.install import UNIT
from fedbus_local.stack import LocalStack
from fedbus_schemas.events import RoundCompleted
from typer.testing import CliRunner

from tests.stacks import WAIT_S, federation
from tests.trainers import TINY

SITE = """
def train(model, settings):
    model["w"] += 1
    return model, 7, {"loss": 0.5}
"""
PROGRAM = Path(sys.executable).with_name("fedbus")
WATCHDOG_S = 0.4


class Systemd:
    """As much of systemd as a service of type notify sees: its socket and its variables."""

    def __init__(self, folder: Path, name: str) -> None:
        self._root, self._name = folder, name
        self._address = f"{folder}/notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(self._address)

    @property
    def command(self) -> list[str]:
        """What the unit starts, below the root."""
        unit = (self._root / "etc/systemd/system" / UNIT).read_text()
        [line] = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
        place = f"{self._root}/etc/fedbus/{self._name}"
        line = line.replace("/etc/fedbus/%i", place).replace("%d", place)
        return str(line).split()

    async def told(self, word: str) -> None:
        """Wait for a notification that says this."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(WAIT_S):
            while word not in (await loop.sock_recv(self._socket, 4096)).decode().split("\n"):
                pass

    @asynccontextmanager
    async def service(self) -> AsyncIterator[Process]:
        """Run the service; it is killed at the end if it has not stopped."""
        environment = {
            **os.environ,
            "NOTIFY_SOCKET": self._address,
            "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6)),
        }
        process = await asyncio.create_subprocess_exec(*self.command, env=environment, cwd="/")
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            self._socket.close()


def installed(root: Path, *words: str) -> None:
    app = gather(entry_points(group=GROUP))
    said = CliRunner().invoke(app, ["client", "install", *words, "--root", str(root)])
    assert said.exit_code == 0, said.output
    assert "systemctl enable --now" in said.output


async def test_a_service_takes_part_and_tells_systemd(stack: LocalStack, tmp_path: Path) -> None:
    site, root = tmp_path / "site", tmp_path / "root"
    site.mkdir()
    (site / "my_site.py").write_text(SITE)
    (site / "policy.toml").write_text("[tasks]\nvalidate = false")
    (site / "policy.toml").chmod(0o600)
    async with federation(stack, clients=1) as fed:
        [made] = await asyncio.to_thread(stack.make_credentials, ["north"], fed.project)
        file = tmp_path / "north.json"
        await asyncio.to_thread(stack.write_credentials, made, file)
        installed(
            root,
            *("north", "--credentials", str(file), "--policy", str(site / "policy.toml")),
            *("--train", "my_site:train", "--python-path", str(site), "--program", str(PROGRAM)),
        )
        configuration = root / "etc/fedbus/north/client.toml"
        text = configuration.read_text()
        for place in ("/var/lib", "/var/cache", "/run/fedbus"):  # there, systemd makes them
            text = text.replace(place, f"{root}{place}")
        configuration.write_text(text)
        systemd = Systemd(root, "north")
        async with systemd.service() as service:
            await systemd.told("READY=1")
            await fed.online(2)
            await systemd.told("STATUS=link healthy")
            await systemd.told("WATCHDOG=1")
            session = await fed.start(TINY, rounds=1, minimum=2)
            await fed.ended(session)
            assert (root / "var/lib/fedbus/north/alive").exists()
            service.send_signal(signal.SIGTERM)
            await systemd.told("STOPPING=1")
            assert await service.wait() == 0
        events = await fed.assert_sound(session)
    assert [len(one.counted) for one in events if isinstance(one, RoundCompleted)] == [2]


async def test_a_configuration_that_cannot_be_right_is_not_tried_again(tmp_path: Path) -> None:
    file = tmp_path / "client.toml"
    file.write_text('credentials = "none.json"')
    process = await asyncio.create_subprocess_exec(PROGRAM, "client", "start", "--config", file)
    assert await process.wait() == 2
