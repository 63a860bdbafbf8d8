"""Starts the example's session over REST, follows it, then verifies and replays its log.

    python session.py --api http://localhost:8080 --token-file api.token [--rounds 5] [--clients 3]

Ends with 0 when the session completed and the audit passed.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx
import task
from fedbus_core.aggregation.tensorfile import write

TERMINAL = {"completed", "stopped", "failed"}


def main() -> int:
    """Run one session."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--api", default="http://localhost:8080")
    parser.add_argument("--token-file", type=Path, required=True)
    parser.add_argument("--trust", type=Path, help="trust.json; usually beside the token")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", type=int, default=3)
    parser.add_argument("--pause-s", type=float, default=0, help="a site's pause in each training")
    given = parser.parse_args()
    headers = {"Authorization": f"Bearer {given.token_file.read_text().strip()}"}
    with httpx.Client(base_url=given.api, headers=headers, timeout=60) as api:
        session = start(api, given.rounds, given.clients, given.pause_s)
        print(
            f"session {session}: {given.rounds} rounds, {given.clients} clients in each", flush=True
        )
        phase = follow(api, session)
    print(f"session {session} {phase}", flush=True)
    trust = given.trust or given.token_file.with_name("trust.json")
    passed = phase == "completed" and audit(given.api, given.token_file, trust, session)
    return 0 if passed else 1


def start(api: httpx.Client, rounds: int, clients: int, pause_s: float) -> str:
    """Upload a first model and start the session."""
    model = tell(api.post("/v1/models", content=write(task.new_model())))
    body = {
        "model": model["digest"],
        "name": "example",
        "rounds": rounds,
        "minimum": clients,
        "round_timeout_s": 60,
        "train": {"epochs": 5, "rate": 0.1, "pause_s": pause_s},
    }
    return str(tell(api.post("/v1/sessions", json=body))["session"])


def follow(api: httpx.Client, session: str) -> str:
    """Print each completed round as the event stream tells of it; give the phase the session ends in.

    An api that goes away is no reason to stop: the stream goes on after the last event that was seen.
    """
    seen = ""
    while True:
        try:
            with api.stream(
                "GET",
                f"/v1/sessions/{session}/events",
                headers={"Last-Event-ID": seen} if seen else {},
                timeout=httpx.Timeout(10, read=60),
            ) as stream:
                stream.raise_for_status()
                for line in stream.iter_lines():
                    seen = line.removeprefix("id: ") if line.startswith("id: ") else seen
                    if line.startswith("event: round.completed"):
                        print("a round is completed", flush=True)
                    if line.startswith("event: session."):
                        phase = str(tell(api.get(f"/v1/sessions/{session}"))["phase"])
                        if phase in TERMINAL:
                            return phase
        except httpx.TransportError as error:
            print(f"the api went away ({type(error).__name__}); going on", flush=True)
        except httpx.HTTPStatusError as error:
            print(f"the proxy found no api ({error.response.status_code}); going on", flush=True)


def audit(url: str, token: Path, trust: Path, session: str) -> bool:
    """Export the session's log, verify it, and derive every model again."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        bundle = str(Path(folder) / "session.tar")
        asked = ["--api", url, "--token-file", str(token)]
        for step in (
            ["export", session, "-o", bundle, *asked],
            ["verify", bundle, "--trust", str(trust)],
            ["replay", bundle],
        ):
            command = [sys.executable, "-m", "fedbus", "audit", *step]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            print(
                f"audit {step[0]}: {(done.stdout or done.stderr).strip().splitlines()[-1]}",
                flush=True,
            )
            if done.returncode != 0:
                print(done.stderr)
                return False
    return True


def tell(response: httpx.Response) -> dict[str, Any]:
    """Give an answer's JSON; end with the problem's own words otherwise."""
    if response.is_error:
        raise SystemExit(f"the api refused: {response.text}")
    answer: dict[str, Any] = response.json()
    return answer


if __name__ == "__main__":
    sys.exit(main())
