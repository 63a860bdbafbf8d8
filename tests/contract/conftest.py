"""Each test here that asks for a world runs twice: over the memory twins and over real servers."""

from collections.abc import AsyncIterator

import pytest

from tests.servers import Server, nats_server, store_server, valkey_server
from tests.worlds import (
    BusWorld,
    RecordsWorld,
    StoreWorld,
    bus_world,
    records_world,
    store_world,
)

__all__ = ["nats_server", "store_server", "valkey_server"]

MEMORY_AND_REAL = ["memory", pytest.param("real", marks=pytest.mark.servers)]


def server_of(request: pytest.FixtureRequest, name: str) -> Server | None:
    """Start the real server only for the tests that use it."""
    if request.param == "memory":
        return None
    server = request.getfixturevalue(name)
    assert isinstance(server, Server)
    return server


@pytest.fixture(params=MEMORY_AND_REAL)
async def bus(request: pytest.FixtureRequest) -> AsyncIterator[BusWorld]:
    async with bus_world(server_of(request, "nats_server")) as world:
        yield world


@pytest.fixture(params=MEMORY_AND_REAL)
async def records(request: pytest.FixtureRequest) -> AsyncIterator[RecordsWorld]:
    async with records_world(server_of(request, "valkey_server")) as world:
        yield world


@pytest.fixture(params=MEMORY_AND_REAL)
async def store(request: pytest.FixtureRequest) -> AsyncIterator[StoreWorld]:
    async with store_world(server_of(request, "store_server")) as world:
        yield world
