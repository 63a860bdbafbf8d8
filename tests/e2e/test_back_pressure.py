"""A crowd that finishes at once: every update goes through the object store, and nothing falls over."""

import logging
import time
from pathlib import Path

import pytest
import redis
from fedbus_local import keys as secret_files
from fedbus_local.stack import LocalStack

from tests.stacks import Federation, Lines, eventually, federation
from tests.trainers import LARGE

CLIENTS = 150
LEASE_S = 30.0
COMBINER_GROWTH_MAX_MB = 120
"""What a combiner may take above its rest; the updates are 120 MB in all, it holds two groups of 16 MB."""


def memory_mb(pid: int, what: str) -> float:
    """Give VmRSS or VmHWM (its peak) of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1]) / 1024
    raise AssertionError(what)


def places_taken(fed: Federation) -> int:
    """Count the places for transfers that somebody has."""
    password = secret_files.read(fed.stack.layout, "redis.password")
    with redis.Redis(port=fed.stack.plan.ports["redis"], password=password) as connection:
        return int(connection.zcard(f"fl:{fed.project}:transfers"))


@pytest.mark.timeout(300)
async def test_a_crowd_that_finishes_at_once_is_all_counted(
    stack: LocalStack, lines: Lines
) -> None:
    before = {one.name: (one.pid, one.restarts) for one in stack.status().processes}
    combiners = [pid for name, (pid, _) in before.items() if name.startswith("combiner") and pid]
    for pid in combiners:  # from now on the peak
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    at_rest = [memory_mb(pid, "VmRSS") for pid in combiners]
    logging.getLogger("fedbus").setLevel(logging.DEBUG)
    async with federation(stack, CLIENTS) as fed:
        fed.gate.close(fed.names, 1)
        session = await fed.start(LARGE, rounds=1, round_timeout_s=240)
        await lines.until(": training", CLIENTS)
        struck_s = time.monotonic()
        fed.gate.open()
        await fed.ended(session)
        took_s = time.monotonic() - struck_s
        assert [one["counted"] for one in await fed.rounds(session)] == [CLIENTS]

        async def all_given_back() -> bool:
            return places_taken(fed) == 0

        await eventually(all_given_back, "all places were given back by word", LEASE_S / 2)
        await fed.assert_sound(session)
    assert {one.name: (one.pid, one.restarts) for one in stack.status().processes} == before
    turned_away = sum(line.startswith("grant: retry_later") for line in lines.lines)
    growth = [memory_mb(pid, "VmHWM") - rest for pid, rest in zip(combiners, at_rest, strict=True)]
    print(f"\n{CLIENTS} clients: {took_s:.1f} s, {turned_away} turned away, ", end="")
    print(
        f"combiners {[round(rest) for rest in at_rest]} MB + {[round(each) for each in growth]} MB"
    )
    assert turned_away > 0
    assert max(growth) < COMBINER_GROWTH_MAX_MB
