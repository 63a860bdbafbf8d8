"""`fedbus audit export | verify | replay`. Exit codes: 0 all is well, 1 something was found, 2 unreadable."""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeAlias

import typer
from fedbus_core.audit.replay import RoundReplay, WhatIf
from fedbus_core.audit.replay import replay as replay_bundle
from fedbus_core.audit.verify import verify as verify_bundle
from fedbus_sandbox.host import run as run_functions
from fedbus_schemas.aggregators import Given
from fedbus_schemas.ids import Scalar
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from fedbus_auditor import show
from fedbus_auditor.api import Access, Api, default_api
from fedbus_auditor.errors import AuditError, BadFile
from fedbus_auditor.export import bundle
from fedbus_auditor.files import FileReader, read_trust, write_whole
from fedbus_auditor.signatures import check

Advance: TypeAlias = Callable[[int], None]

SESSION = r"[a-z0-9][a-z0-9-]{1,47}"

SCALAR: TypeAdapter[Scalar] = TypeAdapter(Scalar)

FOUND, UNREADABLE = 1, 2
"""Exit codes."""

app = typer.Typer(
    no_args_is_help=True, help="Export a session as one file, verify and replay it offline."
)


class Output(StrEnum):
    """How a report is written."""

    HUMAN = "human"
    JSON = "json"


FILE = typer.Argument(help="The bundle.", show_default=False)
OUTPUT = typer.Option("-o", "--output", help="For people or for programs.")


@app.command()
def export(
    session: Annotated[str, typer.Argument(help="The session's id.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Default: SESSION.fedbus.tar")
    ] = None,
    api: Annotated[str, typer.Option(help="The api's address, as http://host:8080.")] = "",
    token_file: Annotated[
        Path | None, typer.Option(help="The file that holds the bearer token.")
    ] = None,
    project: Annotated[str, typer.Option(help="The session's project.")] = "default",
    without_models: Annotated[
        bool, typer.Option("--without-models", help="Leave out what replay can make again.")
    ] = False,
) -> None:
    """Write a session's log, signatures, updates and models into one file.

    Example: fedbus audit export digits-1
    """
    if not re.fullmatch(SESSION, session):
        raise typer.BadParameter(f"{session!r} is not a session's id")
    target = output or Path(f"{session}.fedbus.tar")
    with _errors():
        access = _access(api, token_file)
        with Api(access, project, session) as source, _progress("export", None) as advance:
            pieces = _counted(bundle(source, project, session, models=not without_models), advance)
            size, digest = write_whole(target, pieces)
    typer.echo(f"{target}: {size:,} bytes\nSHA-256   {digest}")
    typer.echo(f"Now:      fedbus audit verify {target} --trust FILE")


@app.command()
def verify(
    file: Annotated[Path, FILE],
    trust: Annotated[
        Path | None, typer.Option(help='The controllers\' public keys: {"keys": [...]}.')
    ] = None,
    models_removed: Annotated[
        bool, typer.Option("--models-removed", help="Derived models may have been left out.")
    ] = False,
    output: Annotated[Output, OUTPUT] = Output.HUMAN,
) -> None:
    """Check every byte, hash, signature and rule of a bundle.

    Example: fedbus audit verify digits-1.fedbus.tar
    """
    with _errors(), _opened(file) as reader, _progress("verify", reader.size) as advance:
        keys = None if trust is None else read_trust(trust)
        reader.on_read = advance
        report = verify_bundle(reader, keys, check, models_removed=models_removed)
    if output is Output.JSON:
        typer.echo(show.report_json(report))
    else:
        _print(show.report_text(report, str(file)))
    raise typer.Exit(0 if report.ok else FOUND if report.readable else UNREADABLE)


@app.command()
def replay(
    file: Annotated[Path, FILE],
    batch_size: Annotated[int, typer.Option(min=1, help="Updates folded into one partial.")] = 3,
    order_seed: Annotated[int, typer.Option(help="Chooses another order of the updates.")] = 1,
    without: Annotated[
        list[str] | None,
        typer.Option(help="Also make each model without this client; can be given again."),
    ] = None,
    aggregator: Annotated[
        str | None, typer.Option(help="Also make each model by this rule.", show_default=False)
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option(help="A parameter of that rule, as momentum=0.5; can be given again."),
    ] = None,
    server_functions: Annotated[
        bool,
        typer.Option(
            help="Run the session's server functions again, in a confined process (Linux)."
        ),
    ] = True,
    output: Annotated[Output, OUTPUT] = Output.HUMAN,
) -> None:
    """Make every model again from the first one and the updates, and compare each SHA-256.

    Example: fedbus audit replay digits-1.fedbus.tar
    """
    what_if = _what_if(without or [], aggregator, parameter or [])

    def say(one: RoundReplay) -> None:
        if output is Output.HUMAN:
            _print(show.round_text(one))

    with _errors(), _opened(file) as reader, _progress("replay", reader.size) as advance:
        reader.on_read = advance
        report = replay_bundle(
            reader,
            batch_size=batch_size,
            order_seed=order_seed,
            what_if=what_if,
            run=run_functions if server_functions else None,
            on_round=say,
        )
    if output is Output.JSON:
        typer.echo(show.replay_json(report))
    else:
        _print(show.replay_text(report, str(file)))
    raise typer.Exit(0 if report.ok else FOUND if report.readable else UNREADABLE)


def _what_if(without: list[str], aggregator: str | None, parameters: list[str]) -> WhatIf:
    """Take the options as a question. Raises `typer.BadParameter`."""
    given: Given = {}
    for one in parameters:
        name, equals, value = one.partition("=")
        if not equals or aggregator is None:
            raise typer.BadParameter(f"--parameter {one}: give --aggregator, and name=value")
        try:
            given[name] = SCALAR.validate_json(value)
        except ValidationError:
            given[name] = value
    asked = WhatIf(frozenset(without), aggregator, given)
    try:
        asked.rule()
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return asked


def _access(url: str, token_file: Path | None) -> Access:
    found = default_api()
    if url:
        return Access(url, token_file)
    if found is None:
        raise BadFile("no api is known; give --api, or set FEDBUS_API_URL")
    return Access(found.url, token_file or found.token_file)


def _counted(pieces: Iterator[bytes], advance: Advance) -> Iterator[bytes]:
    for piece in pieces:
        advance(len(piece))
        yield piece


def _print(lines: Iterator[str]) -> None:
    for line in lines:
        typer.echo(line)


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except AuditError as error:
        typer.echo(f"fedbus audit: {error}", err=True)
        raise typer.Exit(UNREADABLE) from error


@contextmanager
def _opened(path: Path) -> Iterator[FileReader]:
    reader = FileReader(path)
    try:
        yield reader
    finally:
        reader.close()


@contextmanager
def _progress(what: str, total: int | None) -> Iterator[Advance]:
    """Show a bar on a terminal, and nothing elsewhere."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    console = Console(file=sys.stderr)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)
