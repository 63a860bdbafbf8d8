"""Options that several commands share, and how a command ends."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fedbus_local.errors import LocalError

DEFAULT_DIRECTORY = Path(".fedbus")


class Output(StrEnum):
    """For whom a command prints."""

    HUMAN = "human"
    JSON = "json"


Directory = Annotated[
    Path, typer.Option("--dir", envvar="FEDBUS_DIR", help="The stack's data directory.")
]
As = Annotated[Output, typer.Option("--output", "-o", help="For whom to print.")]

console = Console(highlight=False, soft_wrap=True)
complaints = Console(stderr=True, highlight=False, soft_wrap=True)


@contextmanager
def reporting_errors() -> Iterator[None]:
    """Turn what can go wrong into a message and an exit code."""
    try:
        yield
    except LocalError as error:
        complaints.print(f"[bold red]error:[/] {_plain(str(error))}")
        raise typer.Exit(error.exit_code) from error
    except BrokenPipeError:
        sys.stderr.close()
        raise typer.Exit(0) from None


def _plain(text: str) -> str:
    return text.replace("[", "\\[")
