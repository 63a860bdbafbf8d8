"""Every command of `fedbus` shows an example; the page of the commands names its group."""

from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import typer
from fedbus import cli
from fedbus.exit_codes import EXIT_CODES

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")


def commands(group: Any, path: str = "fedbus") -> Iterator[tuple[str, Any]]:
    for name, command in sorted(group.commands.items()):
        if hasattr(command, "commands"):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


ALL = dict(commands(typer.main.get_command(cli.gather(entry_points(group=cli.GROUP)))))


@pytest.mark.parametrize("name", ALL)
def test_a_command_shows_an_example(name: str) -> None:
    assert name in (ALL[name].help or "").replace("\n", " "), f"{name}: add `Example: {name} …`"


def test_the_page_names_every_group_and_exit_code() -> None:
    groups = {name.split()[1] for name in ALL if len(name.split()) > 2}
    assert [one for one in sorted(groups) if f"fedbus {one}" not in PAGE] == []
    for code, meaning in EXIT_CODES.items():
        assert f"| {code} | {meaning} |" in PAGE
