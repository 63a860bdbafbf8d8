"""The bad link of the tests does what they rely on."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from tests.fault_proxy import HOST, Link, fault_proxy


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


@pytest.fixture
async def link() -> AsyncIterator[Link]:
    server = await asyncio.start_server(echo, HOST, 0)
    async with fault_proxy(server.sockets[0].getsockname()[1]) as link:
        yield link
    server.close()
    await server.wait_closed()


class End:
    """A client's end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def echoed(self, data: bytes, within_s: float = 5) -> bytes:
        async with asyncio.timeout(within_s):
            self.writer.write(data)
            await self.writer.drain()
            return await self.reader.readexactly(len(data))


async def connect(link: Link) -> End:
    return End(*await asyncio.open_connection(HOST, link.port))


async def test_it_carries_and_counts(link: Link) -> None:
    ends = [await connect(link) for _ in range(3)]
    for end in ends:
        assert await end.echoed(b"x" * 100_000) == b"x" * 100_000
        end.writer.close()
    assert (link.sent, link.received, link.connections) == (300_000, 300_000, 3)


async def test_it_cuts_after_so_many_bytes_and_carries_again(link: Link) -> None:
    link.cut_every_bytes = 10_000
    for cuts in (1, 2):
        end, other = await connect(link), await connect(link)
        await end.echoed(b"x")
        await other.echoed(b"x")
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await end.echoed(b"x" * 20_000)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await other.echoed(b"x")
        assert link.cuts == cuts
        end.writer.close()
        other.writer.close()
    assert 20_000 <= link.sent <= 2 * 20_002


async def test_it_is_down_and_up_again(link: Link) -> None:
    link.is_down = True
    end = await connect(link)
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await end.echoed(b"x")
    end.writer.close()
    link.is_down = False
    end = await connect(link)
    assert await end.echoed(b"x") == b"x"
    end.writer.close()


async def test_it_is_slow(link: Link) -> None:
    end = await connect(link)
    link.latency_s = 0.05
    started = time.monotonic()
    await end.echoed(b"x")
    assert time.monotonic() - started >= 0.1
    link.latency_s, link.bytes_per_s = 0, 1_000_000
    started = time.monotonic()
    await end.echoed(b"x" * 100_000)
    assert time.monotonic() - started >= 0.1
    end.writer.close()


async def test_it_is_silent(link: Link) -> None:
    end = await connect(link)
    link.is_stalled = True
    with pytest.raises(TimeoutError):
        await end.echoed(b"x", within_s=0.1)
    link.is_stalled = False
    assert await end.reader.readexactly(1) == b"x"
    link.is_swallowing = True
    with pytest.raises(TimeoutError):
        await end.echoed(b"y", within_s=0.1)
    assert link.sent == 2
    end.writer.close()
