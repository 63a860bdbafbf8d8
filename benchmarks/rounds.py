"""Times whole rounds on a local stack: `python benchmarks/rounds.py [--clients 10] [--kilobytes 4]`.

Prints the median seconds from one round's opening to the next one's, where they go, and what each kind of
process needed at most. The first round is warm-up and is left out. Clients run beside the servers, on the
same cores, and do no training: each gives the model back with its own small step added.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from fedbus_core.aggregation.tensorfile import write
from fedbus_local.stack import LocalStack

HERE = Path(__file__).parent
ARRAYS = 10
CLIENTS_PER_PROCESS = 250
MEGABYTE = 1024 * 1024
MEGABYTE_KB = 1024
PARTS = ("first stored", "last stored", "closing", "read", "fold", "store", "completed")


@dataclass(frozen=True)
class Case:
    """What to measure."""

    clients: int
    kilobytes: float
    rounds: int
    controllers: int = 1
    combiners: int = 2
    batch_size: int = 32

    @property
    def label(self) -> str:
        """How many clients, and how large their model is."""
        size = self.kilobytes
        shown = f"{size:g} KB" if size < MEGABYTE_KB else f"{size / MEGABYTE_KB:g} MB"
        return f"{self.clients} x {shown}"


@dataclass
class Outcome:
    """What was measured: seconds a round, seconds from its opening to the end of each part, megabytes."""

    case: Case
    seconds: list[float] = field(default_factory=list)
    parts: dict[str, float] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)
    written: float = 0.0
    workers: list[str] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The median round."""
        return statistics.median(self.seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--kilobytes", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--controllers", type=int, default=1)
    parser.add_argument("--combiners", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=32)
    report(measure(Case(**vars(parser.parse_args()))))


def measure(case: Case) -> Outcome:
    """Start a stack and a fleet, run one session, stop both."""
    with tempfile.TemporaryDirectory(prefix="fedbus-bench-") as directory:
        stack = LocalStack(directory, controllers=case.controllers, combiners=case.combiners)
        with stack, fleet(stack, case.clients) as processes:
            outcome = Outcome(case)
            before = disk_bytes(stack.layout.store("s3"))
            busy_before = cpu_by_role(stack, processes)
            run(stack, case, outcome)
            for role, seconds in cpu_by_role(stack, processes).items():
                outcome.cpu[role] = (seconds - busy_before[role]) / (case.rounds + 1)
            model_bytes = case.kilobytes * 1024 * (case.clients + 1) * (case.rounds + 1)
            after = disk_bytes(stack.layout.store("s3"))
            outcome.written = (after - before) / model_bytes
            for each in stack.status().processes:
                if each.pid is not None:
                    peak = peak_megabytes(each.pid)
                    outcome.memory[each.role] = max(peak, outcome.memory.get(each.role, 0.0))
            outcome.memory["clients"] = sum(peak_megabytes(one.pid) for one in processes)
            return outcome


def run(stack: LocalStack, case: Case, outcome: Outcome) -> None:
    """Run one session and read its rounds' records and timelines."""
    headers = {"Authorization": f"Bearer {stack.api_token}"}
    with httpx.Client(base_url=stack.api_url, headers=headers, timeout=600) as api:
        items = int(case.kilobytes * 1024 / 4 / ARRAYS)
        rng = np.random.default_rng(1)
        arrays = {f"w{n}": rng.normal(0, 0.05, items).astype(np.float32) for n in range(ARRAYS)}
        model = api.post("/v1/models", content=write(arrays)).raise_for_status().json()
        body = {
            "model": model["digest"],
            "rounds": case.rounds + 1,
            "minimum": case.clients,
            "round_timeout_s": 1800,
            "validate": False,
            "batch_size": case.batch_size,
        }
        session = api.post("/v1/sessions", json=body).raise_for_status().json()["session"]
        url = f"/v1/sessions/{session}"
        with api.stream("GET", f"{url}/events?follow=false", timeout=1800) as stream:
            for _ in stream.iter_lines():
                pass
        ends: dict[str, list[float]] = {part: [] for part in PARTS}
        for number in range(2, case.rounds + 2):
            record = api.get(f"{url}/rounds/{number}").raise_for_status().json()["attempts"][-1]
            outcome.seconds.append(record["duration_s"])
            outcome.workers = sorted({*outcome.workers, *record["workers"]})
            timeline = api.get(f"{url}/rounds/{number}/timeline").raise_for_status().json()
            _collect(ends, timeline["spans"])
        outcome.parts = {part: statistics.median(found) for part, found in ends.items() if found}


def _collect(ends: dict[str, list[float]], spans: list[dict[str, Any]]) -> None:
    stored = [span["end_s"] for span in spans if span["name"] == "stored"]
    ends["first stored"].append(min(stored))
    ends["last stored"].append(max(stored))
    for span in spans:
        if span["name"] in ends:
            ends[span["name"]].append(span["end_s"])


def report(outcome: Outcome) -> None:
    """Print one outcome."""
    case = outcome.case
    low, high = min(outcome.seconds), max(outcome.seconds)
    print(f"{case.clients} clients x {case.kilobytes:g} KB, {len(outcome.seconds)} rounds")
    print(f"  round        {outcome.median:8.3f} s   (min {low:.3f}, max {high:.3f})")
    for part, seconds in outcome.parts.items():
        print(f"  {part:<12} {seconds:8.3f} s after the opening")
    peaks = ", ".join(f"{name} {megabytes:.0f}" for name, megabytes in outcome.memory.items())
    print(f"  peak memory  {peaks} MB")
    busy = ", ".join(f"{name} {seconds:.3f}" for name, seconds in outcome.cpu.items())
    print(f"  processor    {busy}, all {sum(outcome.cpu.values()):.3f} s a round")
    print(f"  stored       {outcome.written:.2f} bytes a byte of models and updates")
    print(f"  workers      {', '.join(outcome.workers)}", flush=True)


@contextmanager
def fleet(stack: LocalStack, clients: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run the virtual clients beside the stack."""
    files = stack.add_clients([f"c{place}" for place in range(clients)])
    processes = []
    with (stack.layout.logs / "fleet.log").open("wb") as log:
        for start in range(0, clients, CLIENTS_PER_PROCESS):
            some = map(str, files[start : start + CLIENTS_PER_PROCESS])
            command = [sys.executable, str(HERE / "fleet.py"), str(start), *some]
            processes.append(subprocess.Popen(command, stdout=log, stderr=log))
    try:
        yield processes
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(timeout=60)


def cpu_by_role(stack: LocalStack, clients: list[subprocess.Popen[bytes]]) -> dict[str, float]:
    """Give the processor seconds that each kind of process used so far; each server is a kind."""
    used: dict[str, float] = {}
    for each in stack.status().processes:
        if each.pid is not None:
            role = each.name if each.role == "server" else each.role
            used[role] = used.get(role, 0.0) + cpu_seconds(each.pid)
    used["clients"] = sum(cpu_seconds(one.pid) for one in clients)
    return used


def cpu_seconds(pid: int) -> float:
    """Give the processor seconds, user and system, that a process used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_megabytes(pid: int) -> float:
    """Give the most resident memory that a process had so far."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def disk_bytes(folder: Path) -> int:
    """Give what a store's files hold, once they stop growing."""
    size = -1
    while True:
        now = sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file())
        if now == size:
            return size
        size = now
        time.sleep(0.5)


if __name__ == "__main__":
    main()
