"""`python -m tests.simulation`: run many seeds over all processors; the first failures are shrunk and told.

make sim                                   1,200 seeds over all scenarios
make sim RUNS=20000 SEED=5000              more, from another seed on
make sim SCENARIO=zombies SEED=31 RUNS=1   one run again
make sim SCENARIO=zombies SEED=31 RUNS=1 TRACE=1
"""

import argparse
import sys
import time

from tests.simulation.many import Failure, run_many
from tests.simulation.plan import make_plan
from tests.simulation.scenario import BadScenario, load, names
from tests.simulation.simulate import simulating


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--scenario", default="", help="one scenario; none = all in turn")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--runs", type=int, default=1200, help="how many seeds in all")
    parser.add_argument(
        "--trace", action="store_true", help="print the whole trace of the first seed"
    )
    given = parser.parse_args()
    chosen = [given.scenario] if given.scenario else names()
    try:
        for name in chosen:
            load(name)
    except BadScenario as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if given.trace:
        return _trace(chosen[0], given.seed)
    started = time.monotonic()
    failures = run_many(chosen, given.seed, given.runs)
    _say(failures)
    spent_s = time.monotonic() - started
    rate = given.runs / spent_s
    _print(f"{given.runs} seeds, {len(failures)} failed, {spent_s:.1f} s, {rate:.0f} a second")
    return 1 if failures else 0


def _trace(scenario: str, seed: int) -> int:
    with simulating() as simulator:
        outcome = simulator.run(make_plan(load(scenario), seed), traced=True)
    for line in outcome.trace:
        _print(line)
    for text in outcome.violations:
        _print(f"! {text}")
    return 0 if outcome.ok else 1


def _say(failures: list[Failure]) -> None:
    for failure in failures:
        if failure.report:
            _print(failure.report + "\n")
    others = [f"{one.scenario} {one.seed}" for one in failures if not one.report]
    if others:
        _print(f"these fail, too: {', '.join(others)}\n")


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
