"""The table of clients: entered once, renamed, erased; copies follow."""

import asyncio
from datetime import UTC, datetime

from fedbus_runtime.memory import MemoryWorld
from fedbus_runtime.memory_clock import ManualClock
from fedbus_runtime.registry import ClientRegistry
from fedbus_schemas import subjects
from fedbus_schemas.registry import ClientRecord, ErasedClient
from fedbus_schemas.streams import CONSUMERS, STREAMS

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DEVICE = "U" + "A" * 55
A, B = ("c" + letter * 16 for letter in "ab")


def record(client: str, name: str = "north") -> ClientRecord:
    return ClientRecord(device=DEVICE, client=client, name=name, key="k" * 43, since=NOW)


async def test_a_copy_follows_renames_and_erasures() -> None:
    world = MemoryWorld(ManualClock(NOW))
    ports = world.connections()
    await ports.deliveries.prepare(STREAMS, CONSUMERS)
    writer, copy = ClientRegistry(ports.streams), ClientRegistry(ports.streams)
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(copy.follow(ports.wire))
        for _ in range(5):  # until it has subscribed
            await asyncio.sleep(0)
        await writer.enter("p", record(A))
        assert await copy.by_device("p", DEVICE) == record(A)
        subject = subjects.client_record("p", DEVICE)
        await ports.streams.append(subject, record(A, "south").to_bytes())
        await until(lambda: copy.by_device("p", DEVICE), record(A, "south"))
        await ports.streams.append(subject, ErasedClient(erased=NOW).to_bytes())
        await until(lambda: copy.by_device("p", DEVICE), None)
        assert await copy.by_clients("p", [A]) == {}
        assert await writer.everyone("p") == []
        assert await writer.enter("p", record(B)) == record(B)
        assert await copy.everyone("p") == [record(B)]
        assert await writer.enter("p", record(A)) == record(B), "the one that stands"
        following.cancel()


async def until(look, wanted) -> None:
    async with asyncio.timeout(5):
        while await look() != wanted:
            await asyncio.sleep(0)
