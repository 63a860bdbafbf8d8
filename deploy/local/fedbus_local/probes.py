"""Questions that tell whether a process is healthy: None is yes, a text is what is wrong."""

import asyncio
import json
from collections.abc import Awaitable, Callable

TIMEOUT_S = 1.5
ANSWER_BYTES_MAX = 64 * 1024
OK = 200

Probe = Callable[[], Awaitable[str | None]]


def http(host: str, port: int, path: str) -> Probe:
    """Ask an HTTP server; a problem's title or status is passed on."""

    async def probe() -> str | None:
        request = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"
        return _read_http(await _exchange(host, port, request.encode()))

    return _bounded(probe)


def valkey(host: str, port: int, password: str) -> Probe:
    """Sign in and ping."""

    async def probe() -> str | None:
        question = f"AUTH {password}\r\nPING\r\nQUIT\r\n".encode()
        answer = await _exchange(host, port, question)
        return None if b"+PONG" in answer else answer.decode(errors="replace").strip()[:200]

    return _bounded(probe)


def _bounded(probe: Probe) -> Probe:
    async def bounded() -> str | None:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await probe()
        except TimeoutError:
            return f"no answer within {TIMEOUT_S} s"
        except OSError as error:
            return error.strerror or str(error)

    return bounded


async def _exchange(host: str, port: int, question: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(question)
        answer = b""
        while len(answer) < ANSWER_BYTES_MAX:
            part = await reader.read(ANSWER_BYTES_MAX)
            if not part:
                break
            answer += part
        return answer
    finally:
        writer.close()


def _read_http(answer: bytes) -> str | None:
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(b"\r\n", 1)[0].split()
    if len(words) < 2 or not words[1].isdigit():
        return "no HTTP answer"
    status = int(words[1])
    if status == OK:
        return None
    return f"status {status}{_reason(body)}"


def _reason(body: bytes) -> str:
    start = body.find(b"{")
    try:
        content: object = json.loads(body[start : body.rfind(b"}") + 1]) if start >= 0 else None
    except ValueError:
        return ""
    if not isinstance(content, dict):
        return ""
    for name in ("error", "detail", "reason", "title"):
        if isinstance(content.get(name), str):
            return f": {content[name][:200]}"
    return ""
