"""A bad link for tests: a TCP proxy that cuts, slows, delays, swallows, stalls, and counts the bytes.

    async with fault_proxy(server.port) as link:
        link.cut_every_bytes = 5_000_000
        ...  # connect to link.port
        assert link.sent < 1.1 * size

It knows no protocol: NATS, Redis and S3 go through it alike. What is set holds at once, for open
connections too.
"""

import asyncio
import fcntl
import socket
import struct
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

HOST = "127.0.0.1"
BUFFER_BYTES = 64 * 1024
"""Small, so that little is lost with a cut that was counted but did not arrive, or the other way round."""
LOOK_S = 0.005


@dataclass(slots=True)
class Link:
    """The link. Bytes are counted over all connections, from the client (`sent`) and to it (`received`)."""

    port: int
    cut_every_bytes: int | None = None
    """After so many bytes in both directions, all connections are reset."""
    latency_s: float = 0.0
    """How long each piece of data waits in either direction."""
    bytes_per_s: float | None = None
    """How much goes through in either direction."""
    is_down: bool = False
    """New connections are reset at once."""
    is_stalled: bool = False
    """Half-open: connections stay, and nothing moves."""
    is_swallowing: bool = False
    """What comes from a client is taken and thrown away."""
    sent: int = 0
    received: int = 0
    cuts: int = 0
    connections: int = 0
    _since_cut: int = 0
    _carried: dict["asyncio.Task[None]", socket.socket] = field(default_factory=dict)

    def cut(self) -> None:
        """Reset every connection now."""
        self.cuts += 1
        self._since_cut = 0
        for carrying, client in self._carried.items():
            with suppress(OSError):  # what lies in our buffer was on the link too
                self.sent += struct.unpack("i", fcntl.ioctl(client, termios.FIONREAD, bytes(4)))[0]
            carrying.cancel()
        self._carried.clear()

    async def pump(
        self, source: socket.socket, target: socket.socket, *, from_client: bool
    ) -> None:
        """Move bytes one way until the end or a cut."""
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(source, self._room()):
            while self.is_stalled:
                await asyncio.sleep(LOOK_S)
            self._since_cut += len(data)
            if from_client:
                self.sent += len(data)
            else:
                self.received += len(data)
            pause_s = self.latency_s + (len(data) / self.bytes_per_s if self.bytes_per_s else 0)
            if pause_s:
                await asyncio.sleep(pause_s)
            if not (from_client and self.is_swallowing):
                await loop.sock_sendall(target, data)
            if self.cut_every_bytes is not None and self._since_cut >= self.cut_every_bytes:
                self.cut()
                return
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    async def carry(self, client: socket.socket, server_port: int) -> None:
        """Carry one connection until both its ends are done, or it is cut."""
        self.connections += 1
        carrying = asyncio.current_task()
        assert carrying is not None
        server = socket.socket()
        server.settimeout(0)
        try:
            if self.is_down:
                return
            self._carried[carrying] = client
            await asyncio.get_running_loop().sock_connect(server, (HOST, server_port))
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self.pump(client, server, from_client=True))
                pumps.create_task(self.pump(server, client, from_client=False))
        except* OSError:  # one of the ends is gone
            pass
        finally:
            self._carried.pop(carrying, None)
            for end in (client, server):
                with suppress(OSError):
                    linger = struct.pack("ii", 1, 0)  # close with a reset
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                end.close()

    def _room(self) -> int:
        if self.cut_every_bytes is None:
            return BUFFER_BYTES
        return max(1, min(BUFFER_BYTES, self.cut_every_bytes - self._since_cut))


@asynccontextmanager
async def fault_proxy(server_port: int, port: int = 0) -> AsyncIterator[Link]:
    """Listen on a port before a server's; both on the loopback."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    for buffer in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        listener.setsockopt(socket.SOL_SOCKET, buffer, BUFFER_BYTES)
    listener.bind((HOST, port))
    listener.listen(128)
    listener.settimeout(0)
    link = Link(listener.getsockname()[1])

    async def accept(connections: asyncio.TaskGroup) -> None:
        while True:
            client, _ = await asyncio.get_running_loop().sock_accept(listener)
            client.settimeout(0)
            connections.create_task(link.carry(client, server_port))

    async with asyncio.TaskGroup() as connections:
        accepting = connections.create_task(accept(connections))
        try:
            yield link
        finally:
            accepting.cancel()
            link.is_stalled = False
            link.cut()
            listener.close()
