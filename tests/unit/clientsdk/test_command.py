"""The console script, and `fedbus.run` as a program."""

import builtins
import signal
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import typer
from fedbus import BadOption, __main__, cli
from fedbus._functions import find_function
from fedbus.client import run
from typer.testing import CliRunner

parts = typer.Typer()
local = typer.Typer()
more_client = typer.Typer()
NOT_AN_APP = 3


@parts.callback()
def _parts() -> None:
    """Keep the sub-command."""


@parts.command()
def verify() -> None:
    print("verified")


@local.command()
def up() -> None:
    print("up now")


@more_client.command()
def add(name: str) -> None:
    print(f"added {name}")


def part(name: str, attribute: str) -> EntryPoint:
    return EntryPoint(name, f"{__name__}:{attribute}", cli.GROUP)


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__, _this()))
    return cli.gather(
        [
            part("audit", "parts"),
            part("local", "local"),
            part("client", "more_client"),
            part("broken", "missing"),
            part("wrong", "NOT_AN_APP"),
            EntryPoint("gone", "no_such_module_here:app", cli.GROUP),
        ]
    )


def _this() -> Any:
    import types

    module = types.ModuleType(__name__)
    module.__dict__.update(globals())
    return module


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["audit", "verify"], "verified"),
        (["up"], "up now"),
        (["client", "add", "site-1"], "added site-1"),
        (["--version"], "fedbus 0.1.0"),
        (["client", "run", "--help"], "module:function"),
    ],
)
def test_commands_of_all_parts_are_found(app: typer.Typer, words: list[str], says: str) -> None:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert says in done.output


def test_a_broken_part_costs_the_others_nothing(app: typer.Typer) -> None:
    done = CliRunner().invoke(app, ["--help"])
    for name in ("broken", "wrong", "gone"):
        assert name not in done.output


def test_only_the_parts_that_the_first_word_names_are_loaded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__, _this()))
    offered = [part("audit", "parts"), part("local", "local"), part("broken", "missing")]
    for word, found in (("audit", ["verify"]), ("session", ["list"]), ("client", ["run", "list"])):
        group: Any = typer.main.get_command(cli.gather(offered, word))
        assert set(found) <= set(group.commands[word].commands)
        assert "up" not in group.commands
    assert not caplog.records
    for word in ("", "up", "local", "--version", "meeting"):
        group = typer.main.get_command(cli.gather(offered, word))
        assert {"up", "audit", "session", "client"} <= set(group.commands)


def test_a_function_is_found_by_its_place() -> None:
    assert find_function("os.path:join").__name__ == "join"
    for bad in ("join", "os.path:", "os.path:nothing", "no_such_module:f", "os:sep"):
        with pytest.raises(typer.BadParameter):
            find_function(bad)


def test_without_the_extra_it_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = builtins.__import__

    def without_typer(name: str, *args: Any, **more: Any) -> Any:
        if name == "typer":
            raise ModuleNotFoundError("No module named 'typer'", name="typer")
        return real(name, *args, **more)

    monkeypatch.delitem(sys.modules, "fedbus.cli")
    monkeypatch.delattr("fedbus.cli")
    monkeypatch.setattr(builtins, "__import__", without_typer)
    assert __main__.main() == 2
    assert "pip install 'fedbus[cli]'" in capsys.readouterr().err


def test_an_error_of_ours_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    missing = str(tmp_path / "none.json")
    words = ["fedbus", "client", "run", "--train", "os.path:join", "--credentials", missing]
    monkeypatch.setattr(sys, "argv", words)
    assert __main__.main() == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("fedbus: cannot read the credentials")


PROGRAM = """
import fedbus, sys
def train(model, settings):
    return model, 1, {}
fedbus.run(train=train, credentials=sys.argv[1])
print("after run")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_program_cleanly(
    tmp_path: Path, world: Any, number: signal.Signals
) -> None:
    path = tmp_path / "client.json"
    path.write_bytes(world.credentials.to_bytes())
    path.chmod(0o600)
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert "no connection to the bus" in line
        process.send_signal(number)
        out, rest = process.communicate(timeout=20)
    assert process.returncode == 0, rest
    assert out == "after run\n"
    assert "Traceback" not in rest
    assert rest.splitlines()[-1].endswith("INFO stopped")


async def test_run_inside_an_event_loop_says_what_to_do(world: Any) -> None:
    with pytest.raises(BadOption, match=r"await fedbus\.Client"):
        run(train=lambda model, settings: (model, 1, {}), credentials=world.credentials)
