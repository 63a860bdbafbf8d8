"""Times whole rounds on a local stack: `python benchmarks/rounds.py [--clients 10] [--kilobytes 4]`.

Prints the median seconds from one round's opening to the next one's, and the median of each part of it.
The first round is warm-up and is left out. Clients run in one process beside the servers, on the same cores.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from fedbus_core.aggregation.tensorfile import write
from fedbus_local.stack import LocalStack

HERE = Path(__file__).parent
ARRAYS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--kilobytes", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--controllers", type=int, default=1)
    parser.add_argument("--combiners", type=int, default=2)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fedbus-bench-") as directory:
        stack = LocalStack(directory, controllers=asked.controllers, combiners=asked.combiners)
        with stack, fleet(stack, asked.clients):
            report(asked, run(stack, asked))


def run(stack: LocalStack, asked: argparse.Namespace) -> list[dict[str, Any]]:
    """Run one session and give its rounds' records and timelines."""
    headers = {"Authorization": f"Bearer {stack.api_token}"}
    with httpx.Client(base_url=stack.api_url, headers=headers, timeout=300) as api:
        items = int(asked.kilobytes * 1024 / 4 / ARRAYS)
        rng = np.random.default_rng(1)
        arrays = {f"w{n}": rng.normal(0, 0.05, items).astype(np.float32) for n in range(ARRAYS)}
        model = api.post("/v1/models", content=write(arrays)).raise_for_status().json()
        body = {
            "model": model["digest"],
            "rounds": asked.rounds + 1,
            "minimum": asked.clients,
            "round_timeout_s": 600,
            "validate": False,
        }
        session = api.post("/v1/sessions", json=body).raise_for_status().json()["session"]
        url = f"/v1/sessions/{session}"
        with api.stream("GET", f"{url}/events?follow=false", timeout=900) as stream:
            for _ in stream.iter_lines():
                pass
        rounds = []
        for number in range(2, asked.rounds + 2):
            record = api.get(f"{url}/rounds/{number}").raise_for_status().json()["attempts"][-1]
            timeline = api.get(f"{url}/rounds/{number}/timeline").raise_for_status().json()
            rounds.append(record | {"spans": timeline["spans"]})
        return rounds


def report(asked: argparse.Namespace, rounds: list[dict[str, Any]]) -> None:
    """Print the medians."""
    times = [one["duration_s"] for one in rounds]
    print(f"{asked.clients} clients x {asked.kilobytes:g} KB, {len(times)} rounds")
    print(
        f"  round    {statistics.median(times):8.3f} s   (min {min(times):.3f}, max {max(times):.3f})"
    )
    stored = [[s["end_s"] for s in one["spans"] if s["name"] == "stored"] for one in rounds]
    print(f"  first stored {statistics.median(min(s) for s in stored):8.3f} s")
    print(f"  last stored  {statistics.median(max(s) for s in stored):8.3f} s")
    for name in ("closing", "read", "fold", "store", "finish", "completed"):
        ends = [s["end_s"] for one in rounds for s in one["spans"] if s["name"] == name]
        if ends:
            print(f"  {name:<12} {statistics.median(ends):8.3f} s")
    workers = sorted({worker for one in rounds for worker in one["workers"]})
    print(f"  workers      {', '.join(workers)}")


@contextmanager
def fleet(stack: LocalStack, clients: int) -> Iterator[None]:
    """Run the virtual clients beside the stack."""
    files = stack.add_clients([f"c{place}" for place in range(clients)])
    with Path(stack.layout.logs / "fleet.log").open("wb") as log:
        command = [sys.executable, str(HERE / "fleet.py"), *map(str, files)]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


if __name__ == "__main__":
    main()
