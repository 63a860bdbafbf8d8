"""Soaks a stack: `python -m tests.soak [--minutes 60]`. Prints a table; ends with 1 when something grows."""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from fedbus_local.stack import LocalStack

from tests.soak.play import soak
from tests.soak.verdict import judge, table


def main() -> int:
    """Soak, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--minutes", type=float, default=60.0)
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="fedbus-soak-") as folder,
        LocalStack(Path(folder) / "stack", controllers=2, combiners=2) as stack,
    ):
        samples = asyncio.run(soak(stack, arguments.minutes * 60))
    findings = judge(samples)
    print(f"\n{samples[-1].rounds} rounds in {arguments.minutes:g} minutes\n{table(findings)}")
    return 0 if all(one.is_fine for one in findings) else 1


if __name__ == "__main__":
    sys.exit(main())
