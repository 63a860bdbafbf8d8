"""Runs the api: `python -m fedbus_api [--print-settings]`."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from fedbus_runtime.connections import Needs
from fedbus_runtime.errors import SettingsFault
from fedbus_runtime.service import Service, run
from fedbus_runtime.settings import read_secret

from fedbus_api.app import create_app
from fedbus_api.settings import ApiSection, ApiSettings, read_trust
from fedbus_api.wiring import Api, wire

BACKLOG = 512
STOP_TIMEOUT_S = 5


def main() -> None:
    """Run until a signal ends it. Redis and the object store may be away: reads go on without them."""
    run("api", ApiSettings, body, needs=Needs.BUS)


async def body(service: Service[ApiSettings]) -> None:
    """Start serving."""
    settings = service.settings.api
    token = read_secret(settings.token_file) if settings.token_file is not None else None
    trust = read_trust(settings.trust_file)
    api = wire(
        service.connections,
        settings,
        token=token,
        trust=trust,
        missing=service.missing,
        kept=service.settings.records.stream(),
        retention=service.settings.retention,
    )
    server = _Server(
        uvicorn.Config(
            create_app(api),
            loop="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=settings.trusted_proxies,
            timeout_graceful_shutdown=STOP_TIMEOUT_S,
        )
    )
    service.supervise("http", serve(server, listen(settings), api))
    await server.up.wait()


def listen(settings: ApiSection) -> socket.socket:
    """Take the port. Raises `SettingsFault` when somebody else has it."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    address = (settings.host, settings.port)
    try:
        return socket.create_server(address, family=family, backlog=BACKLOG)
    except OSError as error:
        detail = f"FEDBUS_API__PORT: cannot listen on {settings.host}:{settings.port}: {error}"
        raise SettingsFault(detail) from error


async def serve(server: uvicorn.Server, taken: socket.socket, api: Api) -> None:
    """Serve until cancelled; then end the event streams and let running requests finish."""
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(server.serve([taken]))
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            api.stopping.set()
            server.should_exit = True
            await serving
            raise


class _Server(uvicorn.Server):
    """Leaves the signals to the runtime, and says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        self.up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install nothing."""
        yield
