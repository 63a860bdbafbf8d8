"""Runs many seeds over all processors, and tells the first failures shrunk."""

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

from tests.simulation.simulate import report, simulating

CHUNK = 25
"""Seeds that a worker runs in a row."""
TOLD_MAX = 3
"""Failures that are shrunk and told; of the others only the seed is named."""

Seed = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Failure:
    """A seed that fails; for the first ones with all that a person needs to see why."""

    scenario: str
    seed: int
    report: str = ""


def run_many(scenarios: Sequence[str], first: int, runs: int) -> list[Failure]:
    """Run so many seeds, the scenarios in turn. Fresh processes, so that nothing of the caller's is in them."""
    count = len(scenarios)
    seeds = [(scenarios[place % count], first + place // count) for place in range(runs)]
    seeds.sort(key=lambda seed: seed[0])  # a worker makes the undisturbed run of a workload once
    chunks = [seeds[place : place + CHUNK] for place in range(0, runs, CHUNK)]
    workers = max(1, min(len(chunks), os.cpu_count() or 1))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        failing = [seed for found in pool.map(_failing, chunks) for seed in found]
        told = list(pool.map(_told, failing[:TOLD_MAX]))
    return told + [Failure(*seed) for seed in failing[TOLD_MAX:]]


def _failing(seeds: Sequence[Seed]) -> list[Seed]:
    with simulating() as simulator:
        return [seed for seed in seeds if not simulator.seed(*seed).ok]


def _told(seed: Seed) -> Failure:
    with simulating() as simulator:
        outcome = simulator.seed(*seed)
        return Failure(*seed, report(simulator.shrink(outcome), outcome))
