"""Crash points: for tests, a service kills itself just before or after one of its calls to the outside.

Every port call that changes something outside of the process is a point, named by who makes it:
`<service>.<module>.<function>.<method>:before|after`, as `controller.perform._sign_head.append:after`. A
call through the runtime has the name of what the service called (`handlers._settle.append` is the log's),
and one by the consumer loop that of the consumer: `combiner.consumer._settle.ack.tallies:before`.

Without the settings of `CrashSettings` nothing is wrapped, so in production there is no trace of this.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from types import FrameType
from typing import Any, TypeAlias, TypeVar, cast

from fedbus_runtime.connections import Connections
from fedbus_runtime.errors import SettingsFault
from fedbus_runtime.ports import Delivery, Request
from fedbus_runtime.settings import CrashSettings, ServiceSettings

CHANGING: Mapping[str, tuple[str, ...]] = {
    "streams": ("append", "schedule", "cancel", "delete"),
    "deliveries": ("prepare",),
    "wire": ("request",),
    "blobs": ("put", "delete"),
    "records": ("put_round", "count", "put_partial", "forget"),
    "presence": ("seen", "gone"),
    "transfers": ("take", "release"),
    "documents": ("put",),
}
"""The methods of each port after which the world is another. `wire.serve` is one too: its answers."""
SETTLING = ("ack", "retry", "discard", "working")
"""The same of a `Delivery`."""
ANSWERED_S = 0.02
"""The answer to a request leaves right after its handler; so much later counts as after."""

_SERVICE = "fedbus_"
_RUNTIME = "fedbus_runtime."
_CONSUMER = "fedbus_runtime.consumer"

Port: TypeAlias = Any  # whichever protocol of `ports` is wrapped
T = TypeVar("T")


def armed(ports: Connections, settings: ServiceSettings) -> Connections:
    """Give the ports with crash points, or as they are when none is asked for. Raises `SettingsFault`."""
    crash = settings.crash
    if not crash.at and crash.record is None:
        return ports
    if not crash.allow:
        raise SettingsFault("FEDBUS_CRASH__… kills the service; it needs FEDBUS_CRASH__ALLOW=true")
    points = Points(crash, type(settings).__module__.partition(".")[0].removeprefix(_SERVICE))
    wrapped: dict[str, Port] = {
        name: _Pointed(getattr(ports, name), methods, points) for name, methods in CHANGING.items()
    }
    wrapped["deliveries"] = _PointedDeliveries(wrapped["deliveries"], points)
    wrapped["wire"] = _PointedWire(wrapped["wire"], points)
    return replace(ports, **wrapped)


class Points:
    """Knows which points were passed, and ends the process at the one that is asked for."""

    def __init__(self, crash: CrashSettings, service: str) -> None:
        self._crash = crash
        self._service = service
        self._passed: dict[str, int] = {}

    def at(self, site: str, side: str) -> None:
        """Pass a point: write it down the first time, and die here if it is the one."""
        point = f"{self._service}.{site}:{side}"
        count = self._passed[point] = self._passed.get(point, 0) + 1
        if count == 1:
            self._write(point)
        if point == self._crash.at and count == self._crash.count:
            self._write(f"killed {point}")
            os.kill(os.getpid(), signal.SIGKILL)

    async def around(self, site: str, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call between its two points. One that fails has no point after it."""
        self.at(site, "before")
        outcome = await call()
        self.at(site, "after")
        return outcome

    def _write(self, line: str) -> None:
        if self._crash.record is not None:
            with self._crash.record.open("a") as file:
                file.write(line + "\n")


class _Pointed:
    """A port, some of whose methods are crash points; all else is the port's own."""

    def __init__(self, port: Port, methods: tuple[str, ...], points: Points) -> None:
        self._port = port
        self._methods = methods
        self._points = points

    def __getattr__(self, name: str) -> Port:
        method = getattr(self._port, name)
        if name not in self._methods:
            return method

        def call(*positional: object, **named: object) -> Awaitable[object]:
            site = _site(sys._getframe(1), name)
            return self._points.around(site, lambda: method(*positional, **named))

        return call


class _PointedDeliveries:
    """Hands out deliveries whose settling is a crash point."""

    def __init__(self, port: Port, points: Points) -> None:
        self._port = port
        self._points = points

    def __getattr__(self, name: str) -> Port:
        return getattr(self._port, name)

    async def fetch(self, *positional: object, **named: object) -> list[Delivery]:
        taken = await self._port.fetch(*positional, **named)
        return [cast(Delivery, _Pointed(one, SETTLING, self._points)) for one in taken]


class _PointedWire:
    """Serves requests whose answers are crash points."""

    def __init__(self, port: Port, points: Points) -> None:
        self._port = port
        self._points = points

    def __getattr__(self, name: str) -> Port:
        return getattr(self._port, name)

    def serve(
        self, subject: str, queue: str, handler: Callable[[Request], Awaitable[bytes | None]]
    ) -> Awaitable[None]:
        site = _site(sys._getframe(1), "serve")

        async def answer(request: Request) -> bytes | None:
            answered = await handler(request)
            self._points.at(site, "before")
            loop = asyncio.get_running_loop()
            loop.call_later(ANSWERED_S, self._points.at, site, "after")
            return answered

        return cast(Awaitable[None], self._port.serve(subject, queue, answer))


def _site(caller: FrameType, method: str) -> str:
    """Name the place in a service's code that led to a call; in the consumer loop, that place there."""
    frame: FrameType | None = caller
    while frame is not None:
        module = str(frame.f_globals.get("__name__"))
        if module.startswith(_SERVICE) and not module.startswith(_RUNTIME):
            return f"{module.partition('.')[2]}.{frame.f_code.co_name}.{method}"
        if module == _CONSUMER and frame is caller:
            consumer = frame.f_locals["self"].consumer.name
            return f"consumer.{frame.f_code.co_name}.{method}.{consumer}"
        if module.startswith(_RUNTIME):
            method = frame.f_code.co_name  # the service called the runtime, and that the port
        frame = frame.f_back
    module = str(caller.f_globals.get("__name__")).partition(".")[2]
    return f"{module}.{caller.f_code.co_name}.{method}"
