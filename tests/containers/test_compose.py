"""Sessions over real containers, undisturbed and under faults: each must complete, verify and replay."""

import subprocess
from collections.abc import Callable

import pytest

from tests.containers.deployments import Deployment

pytestmark = pytest.mark.timeout(420)

ROUNDS = 40


def rounds_done(running: "subprocess.Popen[str]", count: int) -> None:
    """Read the session's output until so many more rounds are completed."""
    assert running.stdout is not None
    for line in running.stdout:
        print(line, end="")
        count -= line.startswith("a round is completed")
        if count <= 0:
            return
    raise AssertionError(f"the session ended early with {running.wait()}")


def test_a_session_completes_and_its_audit_passes(deployment: Deployment) -> None:
    said = deployment.compose("run", "--rm", "session")
    assert "completed" in said
    assert said.count(": OK: ") == 2, said


def test_no_secret_is_in_an_environment_or_readable_by_another_service(
    deployment: Deployment,
) -> None:
    [seed] = [
        deployment.docker("exec", name, "cat", "/run/fedbus/signing.seed").strip()
        for name in deployment.containers("controller")[:1]
    ]
    for service in ("controller", "combiner", "api", "proxy", "nats", "redis", "s3"):
        shown = deployment.docker("inspect", deployment.containers(service)[0])
        assert seed not in shown
    listing = deployment.docker("exec", deployment.containers("combiner")[0], "ls", "/run/fedbus")
    assert "signing.seed" not in listing
    assert "controller.nk" not in listing


def test_services_run_as_nobody_on_a_read_only_root(deployment: Deployment) -> None:
    for service in ("controller", "combiner", "api"):
        name = deployment.containers(service)[0]
        assert deployment.docker("exec", name, "id", "-u").strip() == "10001"
        refused = subprocess.run(
            ["docker", "exec", name, "touch", "/opt/fedbus/mark"],
            env=deployment.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Read-only file system" in refused.stderr


def test_kill_pause_cut_and_scale_lose_nothing(deployment: Deployment) -> None:
    running = deployment.popen(
        "run", "--rm", "session", "--api", "http://proxy:8080", "--token-file",
        "/run/fedbus/api.token", "--rounds", str(ROUNDS), "--pause-s", "0.3",
    )  # fmt: skip
    faults: tuple[Callable[[str], None], ...] = (
        lambda name: kill(deployment, name),
        lambda name: pause(deployment, name, running),
        lambda name: cut(deployment, name, running),
    )
    for service in ("controller", "combiner", "api"):
        for fault in faults:
            rounds_done(running, 2)
            fault(deployment.containers(service)[0])
    deployment.up("--no-recreate", "--scale", "combiner=3", "combiner")
    rounds_done(running, 2)
    deployment.up("--no-recreate", "--scale", "combiner=1", "combiner")
    said, _ = running.communicate(timeout=240)
    assert running.returncode == 0, said
    assert said.count(": OK: ") == 2, said


def kill(deployment: Deployment, name: str) -> None:
    """SIGKILL the process as a crash would, so that the restart policy brings it back."""
    pid = deployment.docker("inspect", "-f", "{{.State.Pid}}", name).strip()
    subprocess.run(["kill", "-9", pid], check=True)


def pause(deployment: Deployment, name: str, running: "subprocess.Popen[str]") -> None:
    deployment.docker("pause", name)
    try:
        rounds_done(running, 1)
    finally:
        deployment.docker("unpause", name)


def cut(deployment: Deployment, name: str, running: "subprocess.Popen[str]") -> None:
    service = name.rsplit("-", 2)[-2]
    network = f"{deployment.project}_default"
    deployment.docker("network", "disconnect", network, name)
    try:
        rounds_done(running, 1)
    finally:
        deployment.docker("network", "connect", "--alias", service, network, name)
