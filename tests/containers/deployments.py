"""Says `docker` and `docker compose` for a deployment of its own."""

import json
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

COMPOSE = Path(__file__).parents[2] / "deploy" / "compose"
FILES = ("-f", "compose.yaml", "-f", "compose.seaweedfs.yaml")


class Deployment:
    """Says `docker compose` and `docker` for one project."""

    def __init__(self, project: str, environment: dict[str, str]) -> None:
        self.project = project
        self.environment = environment

    def compose(self, *words: str, timeout_s: float = 180) -> str:
        profiles = ("--profile", "example", "--profile", "session")
        return self._run(
            ["docker", "compose", "-p", self.project, *FILES, *profiles, *words], timeout_s
        )

    def docker(self, *words: str) -> str:
        return self._run(["docker", *words], 60)

    def popen(self, *words: str) -> "subprocess.Popen[str]":
        profiles = ("--profile", "example", "--profile", "session")
        return subprocess.Popen(
            ["docker", "compose", "-p", self.project, *FILES, *profiles, *words],
            cwd=COMPOSE,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def containers(self, service: str) -> list[str]:
        names = [
            json.loads(line)["Name"]
            for line in self.compose("ps", "--format", "json", service).splitlines()
        ]
        return sorted(names)

    def up(self, *words: str) -> None:
        self.compose("up", "-d", "--wait", "--no-build", *words)

    def _run(self, command: Sequence[str], timeout_s: float) -> str:
        done = subprocess.run(
            command,
            cwd=COMPOSE,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
