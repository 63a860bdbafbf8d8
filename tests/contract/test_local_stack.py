"""The embedded stack as a whole: NATS, Valkey and SeaweedFS under the supervisor, without services."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import redis
import typer
from fedbus_local import client_commands, commands, control, keys, pids, ports
from fedbus_local.errors import NotRunning, StartFailed
from fedbus_local.plan import Wishes
from fedbus_local.reports import State
from fedbus_local.stack import LocalStack
from fedbus_schemas.credentials import Credentials
from minio import Minio
from typer.testing import CliRunner, Result

pytestmark = pytest.mark.servers

START_MAX_S = 15.0
SERVERS = ("nats", "redis", "s3")

COMMANDS = typer.Typer()
COMMANDS.add_typer(commands.app)
COMMANDS.add_typer(client_commands.app, name="client")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    with LocalStack(tmp_path_factory.mktemp("stack") / "data", services=False) as running:
        yield running


def fedbus(*arguments: str | Path) -> Result:
    """Run a command in this process, as the console script would."""
    return CliRunner().invoke(COMMANDS, list(map(str, arguments)))


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("FEDBUS_")}


def store_of(stack: LocalStack) -> Minio:
    access, secret = (keys.read(stack.layout, name) for name in ("s3.access", "s3.secret"))
    where = f"127.0.0.1:{stack.plan.ports['s3']}"
    return Minio(where, access, secret, secure=False, region="us-east-1")


def redis_of(stack: LocalStack) -> "redis.Redis":
    password = keys.read(stack.layout, "redis.password")
    return redis.Redis(port=stack.plan.ports["redis"], password=password)


def started_of(stack: LocalStack) -> dict[str, tuple[int, str | None]]:
    """Give each process's pid and start time, the supervisor's too."""
    report = stack.status()
    found = {each.name: each.pid for each in report.processes} | {"supervisor": report.pid}
    return {name: (pid, pids.started(pid)) for name, pid in found.items() if pid is not None}


def await_gone(processes: Sequence[tuple[int, str | None]], within_s: float = 5.0) -> None:
    deadline_s = time.monotonic() + within_s
    while left := [pid for pid, start in processes if pids.started(pid) == start]:
        assert time.monotonic() < deadline_s, f"still there: {left}"
        time.sleep(0.01)


@pytest.mark.parametrize("name", SERVERS)
def test_a_killed_server_is_started_again(stack: LocalStack, name: str) -> None:
    first = stack.pid(name)
    assert stack.kill(name) == first
    stack.wait_reborn(name, first)
    assert stack.pid(name) != first
    [report] = [each for each in stack.status().processes if each.name == name]
    assert report.restarts == 1


def test_a_server_can_be_held_down(stack: LocalStack) -> None:
    stack.kill("redis", restart=False)
    stack.wait_down("redis")
    assert not stack.status().healthy
    assert fedbus("status", "--dir", stack.layout.root).exit_code == 1
    stack.restart("redis")
    assert stack.status().healthy


def test_a_stopped_server_is_told_as_unhealthy(stack: LocalStack) -> None:
    stack.kill("nats", signal.SIGSTOP)
    try:
        [nats] = [each for each in stack.status().processes if each.name == "nats"]
        assert (nats.state, nats.reason) == (State.UNHEALTHY, "no answer within 1.5 s")
    finally:
        stack.kill("nats", signal.SIGCONT)
    stack.wait_healthy("nats")


def test_up_again_says_so(stack: LocalStack) -> None:
    answer = fedbus("up", "--dir", stack.layout.root, "--servers-only")
    assert answer.exit_code == 0
    assert answer.stdout.startswith("Already running in")
    with pytest.raises(NotRunning):
        next(control.ask(LocalStack(stack.layout.root / "other").layout, "status"))


def test_status_is_a_table_or_json(stack: LocalStack) -> None:
    shown = fedbus("status", "--dir", stack.layout.root)
    assert shown.exit_code == 0
    assert all(name in shown.stdout for name in SERVERS)
    content = json.loads(fedbus("status", "--dir", stack.layout.root, "-o", "json").stdout)
    assert content["healthy"] is True
    assert [each["name"] for each in content["processes"]] == list(SERVERS)
    assert {each["state"] for each in content["processes"]} == {"healthy"}


def _heed_interrupts() -> None:
    """Undo that a shell's background jobs, and all they start, ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_logs_can_be_chosen_and_followed(stack: LocalStack) -> None:
    answer = fedbus(
        "logs", "--dir", stack.layout.root, "--service", "nats", "-n", "3", "-o", "json"
    )
    lines = [json.loads(line) for line in answer.stdout.splitlines()]
    assert [each["process"] for each in lines] == ["nats"] * 3
    command = [sys.executable, "-m", "fedbus_local", "logs", "-f", "-n", "1", "--dir"]
    with subprocess.Popen(
        [*command, str(stack.layout.root)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
        preexec_fn=_heed_interrupts,  # no thread holds a lock that it needs
    ) as following:
        assert following.stdout is not None
        following.stdout.readline()
        os.kill(stack.pid("nats"), signal.SIGHUP)
        assert any("Reloaded" in line for line in following.stdout)
        following.send_signal(signal.SIGINT)
        assert following.wait(10) == 0


def test_a_client_is_added_while_the_stack_runs(stack: LocalStack, tmp_path: Path) -> None:
    file = tmp_path / "site.json"
    at = ("--dir", stack.layout.root)
    answer = fedbus("client", "add", "site-1", "-o", file, "--host", "10.0.0.7", *at)
    assert answer.exit_code == 0
    assert "listen on 127.0.0.1 only" in answer.stderr
    made = Credentials.model_validate_json(file.read_bytes())
    assert made.servers == (f"nats://10.0.0.7:{stack.plan.ports['nats']}",)
    assert file.stat().st_mode & 0o777 == 0o600
    assert fedbus("client", "add", "site-1", *at).exit_code == 1
    assert "site-1" in fedbus("client", "allowed", *at).stdout
    refused = fedbus("client", "remove", "site-1", *at)
    assert refused.exit_code == 1
    assert "start the stack first" in refused.stderr  # the api revokes, and none runs here
    assert "site-1" in fedbus("client", "allowed", *at).stdout


def test_only_a_loopback_stack_is_wanted_by_default(stack: LocalStack) -> None:
    for port in stack.plan.ports.values():
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind((ports.outward_address(), port))
            other.listen()


def test_down_leaves_nothing_and_up_keeps_data_on_another_host_too(tmp_path: Path) -> None:
    begun_s = time.monotonic()
    with LocalStack(tmp_path / "data", services=False) as stack:
        assert time.monotonic() - begun_s < START_MAX_S
        before = stack.plan
        first = started_of(stack)
        with redis_of(stack) as connection:
            connection.set("kept", "yes")
        store_of(stack).put_object("fedbus", "kept", io.BytesIO(b"yes"), 3)
    await_gone(list(first.values()), within_s=1.0)
    assert list(stack.layout.run.glob("*.pid")) == []
    assert fedbus("status", "--dir", stack.layout.root).exit_code == 3
    assert fedbus("down", "--dir", stack.layout.root).stdout.startswith("Nothing is running")

    opened = Wishes(services=False, host="0.0.0.0", public_host="127.0.0.1")
    with LocalStack(tmp_path / "data", wishes=opened) as again:
        assert again.plan.ports == before.ports
        with redis_of(again) as connection:
            assert connection.get("kept") == b"yes"
        answer = store_of(again).get_object("fedbus", "kept")
        assert answer.read() == b"yes"
        answer.close()
        for name in ("s3_filer", "s3_master", "s3_volume", "redis", "nats_monitor"):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((ports.outward_address(), again.plan.ports[name]), 1)


def test_children_die_with_a_killed_supervisor_and_the_next_start_goes_on(tmp_path: Path) -> None:
    with LocalStack(tmp_path / "data", services=False) as stack:
        processes = started_of(stack)
        os.kill(processes["supervisor"][0], signal.SIGKILL)
        await_gone(list(processes.values()))
        assert stack.start()
        assert stack.status().healthy


def test_a_taken_port_is_named(stack: LocalStack, tmp_path: Path) -> None:
    port = str(stack.plan.ports["nats"])
    answer = fedbus("up", "--dir", tmp_path / "data", "--servers-only", "--nats-port", port)
    assert answer.exit_code == 4
    assert f"port {port} is in use" in answer.stderr
    assert "--nats-port" in answer.stderr


def test_a_start_that_fails_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    stack = LocalStack(tmp_path / "data", services=False)
    stack.layout.make()
    (stack.layout.root / "nats" / "jetstream").write_text("not a directory")
    with pytest.raises(StartFailed, match="nats is not healthy") as told:
        stack.start()
    assert "storage directory" in str(told.value)
    assert not stack.running
