"""The prologue that all services share: settings, logs, signals, connections, health, supervised loops.

A service is a `body` that gets a `Service`, starts its loops with `supervise` and returns when they stand;
from then on it is ready. A loop that ends, in whatever way, ends the process: nothing half-alive stays.

    def main() -> None:
        run("combiner", CombinerSettings, body)
"""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from enum import IntEnum
from typing import Generic, NoReturn, TypeVar

import structlog
import uvloop

from fedbus_runtime.connections import Connections, Needs, Servers, connect
from fedbus_runtime.crash_points import armed
from fedbus_runtime.errors import RuntimeFault, SettingsFault
from fedbus_runtime.health import HealthServer
from fedbus_runtime.logs import configure_logs
from fedbus_runtime.measured_ports import measured
from fedbus_runtime.metrics import BUS_CONNECTED, exposition
from fedbus_runtime.settings import ServiceSettings, print_settings
from fedbus_runtime.spans import Tracing
from fedbus_runtime.telemetry import Telemetry, telemetry_of
from fedbus_runtime.traced_ports import traced

LOOK_TIMEOUT_S = 1.0
"""How long the metrics wait for a server that tells how something is now."""
STOP_TIMEOUT_S = 15.0
"""From the signal to the end: the consumers' drain and the closing of the connections fit in."""

_log = structlog.get_logger(__name__)

S = TypeVar("S", bound=ServiceSettings)


class ExitCode(IntEnum):
    """Why the process ended."""

    STOPPED = 0
    LOOP_ENDED = 1
    STOP_TIMED_OUT = 2
    SETTINGS = 78
    """As `EX_CONFIG` of sysexits: starting it again without a change does not help."""


class LoopEnded(Exception):
    """A loop that should run for ever came to its end."""


class Service(Generic[S]):
    """What a body gets: its settings, the ports, and the place to hang its loops."""

    def __init__(
        self,
        settings: S,
        servers: Servers,
        tasks: asyncio.TaskGroup,
        tracing: Tracing | None = None,
    ) -> None:
        self.settings = settings
        self.tracing = tracing
        self.connections: Connections = traced(measured(armed(servers.ports, settings)), tracing)
        self._servers = servers
        self._tasks = tasks
        self._loops: list[asyncio.Task[None]] = []
        self._looks: list[Callable[[], Awaitable[None]]] = []
        self._stopping = False

    def supervise(self, name: str, loop: Coroutine[object, object, None]) -> None:
        """Run a loop that should never end. Its end ends the process."""
        self._loops.append(self._tasks.create_task(self._watched(name, loop), name=name))

    def measure_with(self, look: Callable[[], Awaitable[None]]) -> None:
        """Call this before the metrics are shown: it sets those that say how something is now."""
        self._looks.append(look)

    async def measure(self) -> str:
        """Write the metrics. What a server that is away would tell stays as it was."""
        BUS_CONNECTED.set(float(self._servers.bus.connection.connected))
        for look in self._looks:
            try:
                async with asyncio.timeout(LOOK_TIMEOUT_S):
                    await look()
            except (RuntimeFault, TimeoutError) as error:
                _log.debug("metrics.look.failed", error=repr(error))
        return exposition()

    def stop_loops(self) -> None:
        """Cancel every loop; each finishes what it is at, within its own bound."""
        self._stopping = True
        for loop in self._loops:
            loop.cancel()

    def missing(self) -> dict[str, str]:
        """Say what keeps the service from being ready now."""
        return {} if self._servers.bus.connection.connected else {"nats": "not connected"}

    async def _watched(self, name: str, loop: Coroutine[object, object, None]) -> None:
        await loop
        if not self._stopping:
            raise LoopEnded(f"{name} came to its end")


Body = Callable[[Service[S]], Awaitable[None]]


def run(
    name: str,
    settings_kind: type[S],
    body: Body[S],
    *,
    needs: Needs = Needs.ALL,
    arguments: Sequence[str] | None = None,
) -> NoReturn:
    """Run a service until a signal or a fault ends it, and exit with an `ExitCode`."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        settings = settings_kind.load()
    except SettingsFault as fault:
        sys.stderr.write(f"{name}: {fault}\n")
        sys.exit(ExitCode.SETTINGS)
    if "--print-settings" in words:
        sys.stdout.write(print_settings(settings) + "\n")
        sys.exit(ExitCode.STOPPED)
    try:
        settings.demand_secure()
    except SettingsFault as fault:
        sys.stderr.write(f"{name}: {fault}\n")
        sys.exit(ExitCode.SETTINGS)
    configure_logs(settings.log, name, settings.instance)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code = runner.run(_with_signals(name, settings, body, needs))
    sys.exit(code)


async def serve(settings: S, body: Body[S], needs: Needs, stop: asyncio.Event) -> ExitCode:
    """Run a service inside a running loop until `stop` is set; `run` without process and signals."""
    state = _State[S]()
    code = ExitCode.SETTINGS
    try:
        async with asyncio.TaskGroup() as tasks:
            health = tasks.create_task(_health(settings, state))
            main = tasks.create_task(_main(settings, body, needs, state))
            stopper = tasks.create_task(_stop_later(stop, main, state))
            code = await main
            stopper.cancel()
            health.cancel()
    except* SettingsFault as faults:
        _log.error("service.settings", faults=[str(fault) for fault in _leaves(faults)])
    return code


class _State(Generic[S]):
    """How far the start has come."""

    def __init__(self) -> None:
        self.service: Service[S] | None = None
        self.waiting_for: str | None = "start"
        self.stopping = False
        self.ready = False

    def wait_for(self, server: str | None) -> None:
        self.waiting_for = server

    async def measure(self) -> str:
        return exposition() if self.service is None else await self.service.measure()

    def missing(self) -> dict[str, str]:
        if self.stopping:
            return {"service": "stopping"}
        if self.waiting_for is not None:
            return {self.waiting_for: "waited for"}
        if not self.ready or self.service is None:
            return {"service": "starting"}
        return self.service.missing()


async def _with_signals(name: str, settings: S, body: Body[S], needs: Needs) -> ExitCode:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    _log.info("service.started", service=name)
    code = await serve(settings, body, needs, stop)
    _log.info("service.ended", service=name, code=code.name)
    return code


async def _health(settings: ServiceSettings, state: _State[S]) -> None:
    host, port = settings.health.host, settings.health.port
    if port == 0:
        return
    try:
        await HealthServer(state.missing, state.measure).serve(host, port)
    except OSError as error:
        raise SettingsFault(
            f"cannot listen on FEDBUS_HEALTH__HOST {host}:{port}: {error}"
        ) from error


async def _stop_later(stop: asyncio.Event, main: asyncio.Task[ExitCode], state: _State[S]) -> None:
    """On the signal: let the loops drain; after the bound cut everything off."""
    await stop.wait()
    state.stopping = True
    if state.service is not None and state.ready:
        state.service.stop_loops()
        await asyncio.sleep(STOP_TIMEOUT_S)
        _log.error("service.stop.timeout", after_s=STOP_TIMEOUT_S)
    main.cancel()


async def _main(settings: S, body: Body[S], needs: Needs, state: _State[S]) -> ExitCode:
    try:
        async with telemetry_of(settings) as telemetry:
            servers = await connect(settings, needs, state.wait_for)
            try:
                return await _run_loops(settings, servers, body, state, telemetry)
            finally:
                await servers.close()
    except asyncio.CancelledError:
        if not state.stopping:
            raise
        return ExitCode.STOP_TIMED_OUT if state.ready else ExitCode.STOPPED


async def _run_loops(
    settings: S, servers: Servers, body: Body[S], state: _State[S], telemetry: Telemetry
) -> ExitCode:
    code = ExitCode.STOPPED
    try:
        async with asyncio.TaskGroup() as tasks:
            service = state.service = Service(settings, servers, tasks, telemetry.tracing)
            if telemetry.metrics is not None:
                service.supervise("metrics", telemetry.metrics.run(telemetry.every_s))
            service.supervise("bus", servers.bus.connection.wait_closed())
            await body(service)
            state.ready = True
            _log.info("service.ready")
    except* SettingsFault:
        raise
    except* LoopEnded as ended:
        _log.error("service.loop.ended", loops=[str(each) for each in _leaves(ended)])
        code = ExitCode.LOOP_ENDED
    except* Exception as faults:  # noqa: BLE001  # the end of a process is told, whatever ended it
        _log.exception("service.fault", exc_info=faults)
        code = ExitCode.LOOP_ENDED
    return code


def _leaves(fault: BaseException) -> Iterator[BaseException]:
    """Give the exceptions in a group of groups."""
    if isinstance(fault, BaseExceptionGroup):
        for each in fault.exceptions:
            yield from _leaves(each)
    else:
        yield fault
