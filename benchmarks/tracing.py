"""What traces cost: the same sessions with and without, in turns, on two stacks: `benchmarks/tracing.py`.

Every round is traced (nothing is sampled away) and sent by OTLP to a sink here that reads and forgets.
Prints tracing on over off: of the median round, and of the processor time that the services used for it.
"""

import argparse
import os
import statistics
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from subprocess import Popen

from fedbus_local.stack import LocalStack
from rounds import MEGABYTE_KB, Case, Outcome, cpu_by_role, fleet, run

ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
TURNS = 4
SERVICES = ("controller", "combiner", "api")
CASES = (Case(10, 4, 15), Case(10, 4 * MEGABYTE_KB, 5), Case(100, 4, 5))


@dataclass
class Side:
    """One of the two stacks with its clients, and what was measured on it."""

    stack: LocalStack
    clients: "list[Popen[bytes]]"
    seconds: list[float] = field(default_factory=list)
    busy_s: float = 0.0

    def play(self, case: Case) -> None:
        """Run one session more."""
        before = cpu_by_role(self.stack, self.clients)
        outcome = Outcome(case)
        run(self.stack, case, outcome)
        after = cpu_by_role(self.stack, self.clients)
        self.seconds += outcome.seconds
        self.busy_s += sum(after[role] - before[role] for role in SERVICES)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="only the first row")
    cases = CASES[:1] if parser.parse_args().quick else CASES
    print("| clients x model | off, s/round | on, s/round | on over off | services' processor |")
    print("| --- | --- | --- | --- | --- |", flush=True)
    for case in cases:
        print(row(case), flush=True)


def row(case: Case) -> str:
    """Measure one case on both sides and write its line."""
    with ExitStack() as opened:
        endpoint = opened.enter_context(sink())
        off = opened.enter_context(side(case, None))
        on = opened.enter_context(side(case, endpoint))
        for turn in range(TURNS):
            for each in (off, on) if turn % 2 else (on, off):
                each.play(case)
    without, with_ = statistics.median(off.seconds), statistics.median(on.seconds)
    cells = (
        case.label,
        f"{without:.4f}",
        f"{with_:.4f}",
        f"{with_ / without:.3f}",
        f"{on.busy_s / off.busy_s:.3f}",
    )
    return f"| {' | '.join(cells)} |"


@contextmanager
def side(case: Case, endpoint: str | None) -> Iterator[Side]:
    """Start a stack with its clients; it sends traces when there is an endpoint."""
    os.environ.pop(ENDPOINT, None)
    if endpoint is not None:
        os.environ[ENDPOINT] = endpoint
    with tempfile.TemporaryDirectory(prefix="fedbus-bench-") as directory:
        stack = LocalStack(directory, controllers=case.controllers, combiners=case.combiners)
        try:
            with stack, fleet(stack, case.clients) as processes:
                yield Side(stack, processes)
        finally:
            os.environ.pop(ENDPOINT, None)


class _Sink(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def sink() -> Iterator[str]:
    """Give the endpoint of a server that takes everything and keeps nothing."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Sink) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1/traces"
        finally:
            server.shutdown()
            thread.join()


if __name__ == "__main__":
    main()
