"""The compose deployment on a real Docker Engine, once for all tests here; `run.sh` builds its images."""

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.containers.deployments import Deployment, free_port


@pytest.fixture(scope="session")
def deployment() -> Iterator[Deployment]:
    if shutil.which("docker") is None:
        pytest.skip("no docker here: say make containers")
    ports = {name: str(free_port()) for name in ("NATS", "S3", "API")}
    environment = {**os.environ, **{f"FEDBUS_{name}_PORT": port for name, port in ports.items()}}
    made = Deployment(f"fedbus-test-{os.getpid()}", environment)
    try:
        made.compose(
            "up", "-d", "--wait", "--no-build", "proxy", "controller", "combiner", "site",
            timeout_s=300,
        )  # fmt: skip
        yield made
    finally:
        made.compose("down", "-v", "--timeout", "5")
