"""Verify holds one member, replay a fixed number of models; neither depends on how many updates there are."""

import tracemalloc
from collections.abc import Callable

import pytest
from fedbus_core.audit import ustar
from fedbus_core.audit.findings import Code
from fedbus_schemas.sessions import SessionSettings

from tests import audit_worlds as worlds
from tests.audit_worlds import CLIENTS, Maker

ITEMS = 500_000
MODEL_BYTES = 4 * ITEMS
SLACK = 6 * 1024 * 1024
"""Blocks, pieces of 1 MiB, and what is loaded on first use."""


def bundle_of(clients: int) -> bytes:
    maker = Maker(SessionSettings(rounds=1, target=clients), shape=(ITEMS,))
    for client in CLIENTS[:clients]:
        maker.store(client, 3, inline=False)
    maker.close()
    maker.finish()
    return maker.world.bundle()


def peak(call: Callable[[], bool]) -> int:
    assert call()
    tracemalloc.start()
    try:
        assert call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("clients", [1, 3])
def test_memory_does_not_grow_with_the_updates(clients: int) -> None:
    data = bundle_of(clients)
    assert peak(lambda: worlds.verify(data).ok) < MODEL_BYTES + SLACK
    # Two sums of 8 bytes an element, the base, the new model, one update, and a copy while it grows.
    assert peak(lambda: worlds.replay(data, batch_size=1).ok) < 9 * MODEL_BYTES + SLACK


@pytest.mark.parametrize("size", [ustar.MEMBER_BYTES_MAX, 512 * 1000, 1])
def test_a_header_that_promises_more_than_there_is_takes_no_memory(size: int) -> None:
    data = ustar.header("log/00000001.json", size)

    def refused() -> bool:
        return worlds.codes(worlds.verify(data)) == {Code.FORM}

    assert peak(refused) < 1024 * 1024
