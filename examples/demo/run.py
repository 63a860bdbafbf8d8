"""The demo: five sites train one model on real servers; a combiner is killed; the log is verified and replayed.

`make demo`, or `python examples/demo/run.py [--dir fedbus-demo]`. Everything runs on this machine: NATS
JetStream, Valkey (Redis), SeaweedFS (S3), two controllers, two combiners, the api, and five client processes.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import digits
import httpx
import show
from fedbus_core.aggregation.tensorfile import write
from fedbus_local.stack import LocalStack
from rich.console import Console

HERE = Path(__file__).parent
ROUNDS = 8
KILL_IN_ROUND = 4
TRAIN = {"epochs": 20, "rate": 0.7}
SETTINGS = {
    "name": "digits",
    "rounds": ROUNDS,
    "minimum": digits.SITES,
    "round_timeout_s": 60,
    "train": TRAIN,
    "seed": 20261124,
}


def main() -> int:
    """Run the demo; 0 when the session completed and the audit passed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--dir", type=Path, default=Path("fedbus-demo"), help="kept afterwards")
    directory = parser.parse_args().dir
    console = Console()
    with ThreadPoolExecutor(1) as pool:
        baselines = pool.submit(train_alone)
        console.rule("[bold]fedbus: one model from five sites")
        console.print(f"Data, keys and logs stay in [bold]{directory}[/]. Starting the stack …")
        stack = LocalStack(directory, controllers=2, combiners=2)
        began = time.monotonic()
        with stack:
            names = [each.name for each in stack.status().processes]
            console.print(f"Healthy after {time.monotonic() - began:.1f} s: {', '.join(names)}")
            with sites(stack, directory):
                return run(console, stack, directory, baselines)


def run(
    console: Console, stack: LocalStack, directory: Path, baselines: Future[tuple[float, float]]
) -> int:
    """Train, show, audit."""
    headers = {"Authorization": f"Bearer {stack.api_token}"}
    with httpx.Client(base_url=stack.api_url, headers=headers, timeout=30) as api:
        model = tell(api.post("/v1/models", content=write(digits.new_model())))
        body = {"model": model["digest"], **SETTINGS}
        session = tell(api.post("/v1/sessions", json=body))["session"]
        console.print(
            f"Session [bold]{session}[/]: {ROUNDS} rounds, all {digits.SITES} sites in each. "
            f"In round {KILL_IN_ROUND} a combiner gets SIGKILL."
        )
        story = show.follow(console, api, session, ROUNDS, lambda name: kill(stack, name))
        best, pooled = baselines.result()
        rounds = tell(api.get(f"/v1/sessions/{session}/rounds"))["items"]
        show.accuracies(console, rounds, best, pooled)
        timeline = tell(api.get(f"/v1/sessions/{session}/rounds/{KILL_IN_ROUND}/timeline"))
        clients = tell(api.get("/v1/clients"))["items"]
        names = {one["client"]: one["name"] for one in clients}
        show.waterfall(console, timeline, story, names)
    passed = audit(console, stack, directory, session)
    show.further(console, directory, session)
    return 0 if passed and story.completed else 1


def kill(stack: LocalStack, name: str) -> None:
    """Send SIGKILL to a combiner; the supervisor starts it again, as Docker or Kubernetes would."""
    stack.kill(name)


def audit(console: Console, stack: LocalStack, directory: Path, session: str) -> bool:
    """Export the session, verify it against the stack's keys, and derive every model again."""
    console.rule("Audit: from the log and the updates alone")
    bundle = directory / f"{session}.tar"
    bundle.unlink(missing_ok=True)
    token = directory / "keys" / "api.token"
    api = ["--api", stack.api_url, "--token-file", str(token)]
    trust = ["--trust", str(directory / "trust.json")]
    steps = (
        ["export", session, "-o", str(bundle), "--without-models", *api],
        ["verify", str(bundle), "--models-removed", *trust],
        ["replay", str(bundle), "--batch-size", "2", "--order-seed", "99"],
    )
    for step in steps:
        command = [sys.executable, "-m", "fedbus", "audit", *step]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = (done.stdout + done.stderr).strip().splitlines()
        mark = "[green]✔[/]" if done.returncode == 0 else "[red]✘[/]"
        said = lines[0] if step[0] == "export" else lines[-1]
        console.print(f"{mark} fedbus audit {step[0]}: {said}", soft_wrap=True)
        if done.returncode != 0:
            console.print("\n".join(lines))
            return False
    return True


@contextmanager
def sites(stack: LocalStack, directory: Path) -> Iterator[None]:
    """Run one client process for each site."""
    processes: list[subprocess.Popen[bytes]] = []
    try:
        everything, test = digits.load()
        for site, credentials in enumerate(join(stack)):
            data = credentials.with_suffix(".npz")
            digits.write(data, digits.shard(everything, site), test)
            with (directory / "logs" / f"{credentials.stem}.log").open("ab") as log:
                command = [sys.executable, str(HERE / "site.py"), str(credentials), str(data)]
                processes.append(subprocess.Popen(command, stdout=log, stderr=log))
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(timeout=20)


def join(stack: LocalStack) -> list[Path]:
    """Let the sites join, unless an earlier run of the demo did, and give their credentials files."""
    names = [f"site-{site + 1}" for site in range(digits.SITES)]
    files = [stack.layout.clients / f"{name}.json" for name in names]
    if not all(file.exists() for file in files):
        return stack.add_clients(names)
    return files


def train_alone() -> tuple[float, float]:
    """Give the accuracy of the best site's own model, and of one trained on all data in one place."""
    everything, test = digits.load()
    epochs, rate = ROUNDS * int(TRAIN["epochs"]), float(TRAIN["rate"])
    alone = [
        digits.accuracy(
            digits.fit(digits.new_model(), digits.shard(everything, site), epochs, rate, 1)[0], test
        )
        for site in range(digits.SITES)
    ]
    pooled = digits.fit(digits.new_model(), everything, epochs, rate, 1)[0]
    return max(alone), digits.accuracy(pooled, test)


def tell(response: httpx.Response) -> dict[str, show.Json]:
    """Give an answer's JSON; end with the problem's own words otherwise."""
    if response.is_error:
        raise SystemExit(f"the api refused: {response.text}")
    answer: dict[str, show.Json] = response.json()
    return answer


if __name__ == "__main__":
    sys.exit(main())
