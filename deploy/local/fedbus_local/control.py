"""The supervisor's control socket: one JSON line asks, JSON lines answer, the last one says `end` or `error`.

The socket lies in a directory that only its owner can enter; that is the permission.
"""

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import BinaryIO

from fedbus_local.errors import BadDirectory, LocalError, NotRunning
from fedbus_local.layout import Layout

SOCKET = "control.sock"
ASK_TIMEOUT_S = 60.0
LINE_BYTES_MAX = 1024 * 1024
_PATH_BYTES_MAX = 100

Json = dict[str, object]
Operation = Callable[[Json], AsyncIterator[Json]]


@asynccontextmanager
async def serve(layout: Layout, operations: Mapping[str, Operation]) -> AsyncIterator[None]:
    """Answer until the block ends."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.LimitOverrunError, ValueError):
            async for reply in _replies(await reader.readline(), operations):
                writer.write(json.dumps(reply).encode() + b"\n")
                await writer.drain()
        writer.close()

    (layout.run / SOCKET).unlink(missing_ok=True)
    with _address(layout) as address:
        server = await asyncio.start_unix_server(answer, address, limit=LINE_BYTES_MAX)
    try:
        yield
    finally:
        server.close()
        (layout.run / SOCKET).unlink(missing_ok=True)


def ask(
    layout: Layout, operation: str, *, timeout_s: float | None = ASK_TIMEOUT_S, **arguments: object
) -> Iterator[Json]:
    """Ask the supervisor and yield its answers. Raises `NotRunning`, or `LocalError` for a refusal."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        try:
            with _address(layout) as address:
                connection.connect(address)
        except OSError as error:
            raise NotRunning(layout.root) from error
        connection.sendall(json.dumps({"operation": operation, **arguments}).encode() + b"\n")
        with connection.makefile("rb") as lines:
            while line := _next_line(lines, layout):
                content: Json = json.loads(line)
                if "error" in content:
                    raise LocalError(str(content["error"]))
                if "end" in content:
                    return
                yield content


def _next_line(lines: BinaryIO, layout: Layout) -> bytes:
    """Read an answer; empty at the end. A supervisor that dies in mid-answer is one that does not run."""
    try:
        return lines.readline()
    except ConnectionError as error:
        raise NotRunning(layout.root) from error


async def _replies(line: bytes, operations: Mapping[str, Operation]) -> AsyncIterator[Json]:
    try:
        question: object = json.loads(line)
    except ValueError:
        yield {"error": "not a JSON line"}
        return
    if not isinstance(question, dict) or question.get("operation") not in operations:
        yield {"error": f"unknown operation; there are: {', '.join(operations)}"}
        return
    try:
        async for reply in operations[question["operation"]](question):
            yield reply
    except LocalError as error:
        yield {"error": str(error)}
    else:
        yield {"end": True}


@contextmanager
def _address(layout: Layout) -> Iterator[str]:
    """Give a name for the socket that is short enough for the kernel, however deep the directory lies."""
    path = str(layout.run / SOCKET)
    if len(path.encode()) <= _PATH_BYTES_MAX:
        yield path
        return
    if sys.platform != "linux":
        raise BadDirectory(
            f"{layout.root} is too long a path for a socket; name another with --dir"
        )
    descriptor = os.open(layout.run, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET}"
    finally:
        os.close(descriptor)
