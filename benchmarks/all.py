"""Every number of the benchmarks page in one run: `python benchmarks/all.py [--quick]`, or `make bench`.

Whole rounds by clients and model size, beside what the peers needed for the same on a machine like this; the
added time of killed combiners; the fold rate beside memcpy and SHA-256; what traces cost. Takes about a
quarter of an hour, `--quick` three minutes.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from fedbus_core.aggregation.tensorfile import write
from fedbus_local.stack import LocalStack
from rounds import Case, Outcome, fleet, measure

HERE = Path(__file__).parent
MEGABYTE_KB = 1024

CASES: list[tuple[Case, str, str]] = [
    (Case(2, 4, 20), "Flower 6.2", "-"),
    (Case(2, MEGABYTE_KB, 15), "FEDn 1.9, FLARE 2.5, Flower 3.4 (4 MB)", "0.06"),
    (Case(10, 4, 20), "FEDn 1.9, Flower 11.9", "0.03"),
    (Case(10, 4 * MEGABYTE_KB, 8), "FLARE 3.0, FEDn 7.4, Flower 19", "1.0"),
    (Case(100, 4, 6), "FEDn 4.2", "-"),
    (Case(300, 4, 6), "FEDn 8.3 (at 350: never)", "0.4"),
    (Case(1000, 4, 3), "-", "-"),
    (Case(10, 40 * MEGABYTE_KB, 3), "FEDn 20, Flower 21", "6"),
    (Case(10, 100 * MEGABYTE_KB, 2), "FLARE 16.8, Flower 38.8", "12"),
    (Case(4, 150 * MEGABYTE_KB, 2), "FEDn 28", "-"),
]
QUICK = 4
KILL_IN_ROUND = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="only the first rows")
    cases = CASES[:QUICK] if parser.parse_args().quick else CASES
    print(
        "| clients x model | s/round | last update in | model stored | combiner | clients | goal | peers, s |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for case, peers, goal in cases:
        print(row(measure(case), peers, goal), flush=True)
    added = added_by_a_kill()
    print(
        f"\nBoth combiners killed while a round closes: it ends {added:.2f} s later.\n", flush=True
    )
    subprocess.run([sys.executable, str(HERE / "fold.py")], check=True)
    print("\nTraces on over off, in turns:\n", flush=True)
    quick = ["--quick"] if cases is not CASES else []
    subprocess.run([sys.executable, str(HERE / "tracing.py"), *quick], check=True)


def row(outcome: Outcome, peers: str, goal: str) -> str:
    """Write one line of the table. Memory is the largest single combiner's peak, and all clients' sum."""
    case = outcome.case
    cells = (
        case.label,
        f"{outcome.median:.3f}",
        f"{outcome.parts['last stored']:.3f}",
        f"{outcome.parts['store']:.3f}",
        f"{outcome.memory['combiner']:.0f} MB",
        f"{outcome.memory['clients']:.0f} MB",
        goal,
        peers,
    )
    return f"| {' | '.join(cells)} |"


def added_by_a_kill() -> float:
    """Kill both combiners as a round begins to close; give the time lost until they are back and done."""
    clients, rounds = 10, 10
    with tempfile.TemporaryDirectory(prefix="fedbus-bench-") as directory:
        stack = LocalStack(directory, controllers=1, combiners=2)
        with stack, fleet(stack, clients):
            headers = {"Authorization": f"Bearer {stack.api_token}"}
            with httpx.Client(base_url=stack.api_url, headers=headers, timeout=120) as api:
                seconds = _rounds_with_a_kill(stack, api, clients, rounds)
    hurt = seconds.pop(KILL_IN_ROUND)
    return hurt - statistics.median(seconds.values())


def _rounds_with_a_kill(
    stack: LocalStack, api: httpx.Client, clients: int, rounds: int
) -> dict[int, float]:
    content = write({"w": np.zeros(1024, np.float32)})
    model = api.post("/v1/models", content=content).raise_for_status().json()["digest"]
    body: dict[str, Any] = {
        "model": model,
        "rounds": rounds,
        "minimum": clients,
        "round_timeout_s": 120,
        "validate": False,
    }
    session = api.post("/v1/sessions", json=body).raise_for_status().json()["session"]
    url = f"/v1/sessions/{session}"
    closings = 0
    with api.stream("GET", f"{url}/events?follow=false", timeout=300) as stream:
        for line in stream.iter_lines():
            if line == "event: round.closing.v1":
                closings += 1
                if closings == KILL_IN_ROUND:
                    stack.kill("combiner-1")
                    stack.kill("combiner-2")
    found = api.get(f"{url}/rounds?limit=100").raise_for_status().json()["items"]
    return {one["number"]: one["duration_s"] for one in found if one["number"] > 1}


if __name__ == "__main__":
    main()
