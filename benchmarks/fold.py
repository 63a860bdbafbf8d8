"""How fast updates are folded, as ratios to what the same machine does at the same minute.

    .venv/bin/python benchmarks/fold.py [--params 1e7] [--updates 10] [--repeats 5]

GB/s are bytes of float32 updates consumed; memcpy counts bytes read and written. Every figure is the best
of the repeats, and the kinds of work take turns, so that a noisy neighbour hits them alike.
"""

import argparse
import contextlib
import hashlib
import mmap
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from fedbus_core.aggregation import tensorfile
from fedbus_core.aggregation.checks import check_update
from fedbus_core.aggregation.exact import Accumulator, Grid, Numbers, exponents_of
from numpy.typing import NDArray

T = TypeVar("T")

TENSORS = 8
READ_BYTES = 1 << 20
WAITING = 4
FOLD_GOAL, CHAIN_GOAL = 0.13, 0.65


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=float, default=1e7)
    parser.add_argument("--updates", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = make_files(Path(folder), int(options.params), options.updates)
        report(paths, options.repeats)


def make_files(folder: Path, params: int, updates: int) -> list[Path]:
    """Write a few distinct updates and name them as often as asked; the content does not matter."""
    random = np.random.default_rng(1)
    paths = []
    for number in range(min(updates, 10)):
        tensors = {
            f"layer{i}.weight": random.normal(0, 0.05, params // TENSORS).astype("<f4")
            for i in range(TENSORS)
        }
        path = folder / f"{number}.safetensors"
        path.write_bytes(tensorfile.write(tensors))
        paths.append(path)
    return [paths[i % len(paths)] for i in range(updates)]


def report(paths: list[Path], repeats: int) -> None:
    files = [path.read_bytes() for path in sorted(set(paths))]
    updates = [(files[i % len(files)], 600) for i in range(len(paths))]
    layout = tensorfile.parse_layout(files[0], len(files[0]))
    grid = Grid(layout, exponents_of(layout, files[0]), Numbers(cohort_bits=14))
    total = Accumulator(grid)
    target = memoryview(bytearray(len(files[0])))
    work: dict[str, Callable[[], None]] = {
        "memcpy": each(lambda update: np.copyto(as_bytes(target), as_bytes(update[0])), updates),
        "fold, one by one": each(lambda update: total.add(*update), updates),
        "fold, waiting": each(total.add_all, by_few(updates)),
        "check": each(lambda update: check_update(grid, layout, update[0]), updates),
        "SHA-256": each(lambda update: hashlib.sha256(update[0]), updates),
        "read + SHA-256 + fold": each(lambda path: fold_read(path, target, total), paths),
        "map + SHA-256 + fold": each(lambda few: fold_mapped(few, total), by_few(paths)),
    }
    print_rates(rates(work, len(files[0]) * len(paths), repeats))
    began = time.perf_counter()
    size = sum(map(len, total.mean()))
    print(f"mean of {size / 1e6:.0f} MB: {time.perf_counter() - began:.3f} s, once a round")


def each(function: Callable[[T], object], items: Sequence[T]) -> Callable[[], None]:
    def run() -> None:
        for item in items:
            function(item)

    return run


def as_bytes(buffer: bytes | memoryview) -> NDArray[np.uint8]:
    return np.frombuffer(buffer, np.uint8)


def by_few(things: Sequence[T]) -> list[Sequence[T]]:
    """What a combiner finds waiting and folds in one pass over the sums."""
    return [things[i : i + WAITING] for i in range(0, len(things), WAITING)]


def fold_read(path: Path, target: memoryview, total: Accumulator) -> None:
    """Read in pieces that are still in the cache when they are hashed, then fold the whole."""
    digest = hashlib.sha256()
    place = 0
    with path.open("rb", buffering=0) as file:
        while read := file.readinto(target[place : place + READ_BYTES]):
            digest.update(target[place : place + read])
            place += read
    total.add(target, 600)


def fold_mapped(paths: Sequence[Path], total: Accumulator) -> None:
    """Map the files, hash each, fold all in one pass."""
    with contextlib.ExitStack() as stack:
        updates = []
        for path in paths:
            file = stack.enter_context(path.open("rb"))
            mapped = stack.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            updates.append((stack.enter_context(memoryview(mapped)), 600))
            hashlib.sha256(updates[-1][0]).digest()
        total.add_all(updates)
        updates.clear()


def rates(work: dict[str, Callable[[], None]], size: int, repeats: int) -> dict[str, float]:
    best = dict.fromkeys(work, 0.0)
    for _ in range(repeats):
        for name, run in work.items():
            # Processor time: what neighbours take does not count.
            began = time.process_time()
            run()
            best[name] = max(best[name], size / (time.process_time() - began) / 1e9)
    return best


def print_rates(best: dict[str, float]) -> None:
    moved = 2 * best["memcpy"]
    print(f"{'memcpy, read + written':24} {moved:6.2f} GB/s")
    for name, rate in list(best.items())[1:]:
        print(f"{name:24} {rate:6.2f} GB/s   {rate / moved:5.2f} of memcpy")
    fold = max(best["fold, one by one"], best["fold, waiting"]) / moved
    chain = max(best["read + SHA-256 + fold"], best["map + SHA-256 + fold"]) / best["SHA-256"]
    print(f"fold / memcpy                          {fold:.2f}  (goal {FOLD_GOAL})")
    print(f"read or map + SHA-256 + fold / SHA-256 {chain:.2f}  (goal {CHAIN_GOAL})")


if __name__ == "__main__":
    main()
