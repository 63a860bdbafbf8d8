"""A thousand seeds over all scenarios, and that a run is a function of its seed alone."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.simulation.many import run_many
from tests.simulation.plan import make_plan
from tests.simulation.scenario import load, names
from tests.simulation.simulate import report, simulating

ROOT = Path(__file__).parents[2]
RUNS = 1_000
FINGERPRINTS = """
import sys
from tests.simulation.plan import make_plan
from tests.simulation.scenario import load
from tests.simulation.simulate import simulating

with simulating() as simulator:
    for name in sys.argv[1:]:
        outcome = simulator.run(make_plan(load(name), 7), traced=True)
        print(name, len(outcome.trace), outcome.fingerprint)
"""


@pytest.mark.timeout(300)
def test_a_thousand_seeds_hold() -> None:
    failures = run_many(names(), 0, RUNS)
    assert not failures, "\n\n".join(one.report or f"{one.scenario} {one.seed}" for one in failures)


def test_a_run_is_a_function_of_its_seed_whatever_pythons_hashes() -> None:
    chosen = ["everything", "network", "store"]
    said = [_fingerprints(chosen, hash_seed) for hash_seed in ("1", "2")]
    assert said[0] == said[1]
    assert len(said[0].splitlines()) == len(chosen)


def _fingerprints(chosen: list[str], hash_seed: str) -> str:
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-c", FINGERPRINTS, *chosen]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_two_seeds_go_different_ways() -> None:
    with simulating() as simulator:
        plans = [make_plan(load("crashes"), seed) for seed in (1, 2)]
        first, second = (simulator.run(plan, traced=True) for plan in plans)
        again = simulator.run(plans[0], traced=True)
    assert first.fingerprint == again.fingerprint
    assert first.fingerprint != second.fingerprint


def test_every_kind_of_fault_happens() -> None:
    """A fault that never falls tests nothing."""
    seen = ""
    with simulating() as simulator:
        for name in names():
            for seed in range(4):
                seen += "\n".join(simulator.run(make_plan(load(name), seed), traced=True).trace)
    for what in (
        "crash before",
        "crash after",
        "is stopped for",
        "is cut off from bus",
        "flush redis",
        "restore redis",
        "lose redis",
        "lose store",
        "lose bus",
        "forget bus",
        "request lost",
        "answer lost",
        "twice: ",
        "held: ",
        "does not hear",
        "lies: ",
        "append.conflict",
    ):
        assert what in seen, what


def test_a_failure_is_told_with_its_seed_and_a_smaller_plan() -> None:
    with simulating() as simulator:
        plan = make_plan(load("everything"), 3)
        outcome = simulator.run(replace(plan, ends_s=0.1))
        assert not outcome.ok
        smallest = simulator.shrink(outcome)
        told = report(smallest, outcome)
    assert len(smallest.plan.faults) < len(plan.faults)
    assert "make sim SCENARIO=everything SEED=3 RUNS=1" in told
    assert "there is left: s-1 is" in told
    assert "controller-1  starts" in told
