"""Soaks a stack: `python -m tests.soak [--minutes 60 | --rounds 1000]`. Ends with 1 when something grows.

By minutes, sessions with kills, nothing deleted by rule; by rounds, tiny rounds under retention.
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from fedbus_local.stack import LocalStack

from tests.soak import retained
from tests.soak.play import soak
from tests.soak.verdict import judge, table


def main() -> int:
    """Soak, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rounds", type=int)
    arguments = parser.parse_args()
    if arguments.rounds is not None:
        return _under_retention(arguments.rounds)
    with (
        tempfile.TemporaryDirectory(prefix="fedbus-soak-") as folder,
        LocalStack(Path(folder) / "stack", controllers=2, combiners=2) as stack,
    ):
        samples = asyncio.run(soak(stack, arguments.minutes * 60))
    findings = judge(samples)
    print(f"\n{samples[-1].rounds} rounds in {arguments.minutes:g} minutes\n{table(findings)}")
    return 0 if all(one.is_fine for one in findings) else 1


def _under_retention(rounds: int) -> int:
    with (
        retained.short_lives(),
        tempfile.TemporaryDirectory(prefix="fedbus-soak-") as folder,
        LocalStack(Path(folder) / "stack", controllers=2, combiners=2) as stack,
    ):
        samples = asyncio.run(retained.run(stack, rounds))
    findings = retained.judge(samples)
    print(f"\n{samples[-1].rounds} rounds\n{table(findings)}")
    return 0 if all(one.is_fine for one in findings) else 1


if __name__ == "__main__":
    sys.exit(main())
