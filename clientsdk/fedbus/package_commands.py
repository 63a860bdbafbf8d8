"""`fedbus package upload | list | show | activate | …`: the packages that the servers keep."""

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from fedbus_schemas.views import FederationView, PackageView
from fedbus_schemas.wire import Message

from fedbus.api import APIClient, _access
from fedbus.errors import BadOption
from fedbus.packages import archive
from fedbus.record_commands import Api, As, Limit, OfProject, Output, TokenFile

app = typer.Typer(no_args_is_help=True)
"""These join those of `fedbus.packages.commands`, which need no api."""

DIGEST_CHARS = 64
SHOWN_CHARS = 12

Which = Annotated[
    str, typer.Argument(metavar="PACKAGE", help="Its SHA-256 or the beginning of it, or its name.")
]


@app.command()
def upload(
    source: Annotated[Path, typer.Argument(help="An archive, or a package's folder.", exists=True)],
    name: Annotated[str, typer.Option(help="A name for people. Without: the file's.")] = "",
    activate: Annotated[
        bool, typer.Option("--activate", help="Have new sessions pin it as well.")
    ] = False,
    output: As = Output.HUMAN,
    api: Api = "",
    token_file: TokenFile = None,
    project: OfProject = "default",
) -> None:
    """Store a package by its SHA-256. Storing it makes nobody run it: `fedbus package upload client`."""
    with _client(api, token_file, project) as client, tempfile.TemporaryDirectory() as place:
        file = source
        if source.is_dir():
            file = archive.create(source, Path(place) / f"{source.resolve().name}.tgz").path
        view = client.add_package(file, name=name or file.name.partition(".")[0])
        if activate:
            client.activate_package(view.digest)
            view = client.get_package(view.digest)
    _show([view], output)


@app.command("list")
def show_all(
    limit: Limit = 100,
    output: As = Output.HUMAN,
    api: Api = "",
    token_file: TokenFile = None,
    project: OfProject = "default",
) -> None:
    """List the stored packages, the newest first."""
    with _client(api, token_file, project) as client:
        _show(client.get_packages(limit), output)


@app.command()
def show(
    which: Which,
    output: As = Output.HUMAN,
    api: Api = "",
    token_file: TokenFile = None,
    project: OfProject = "default",
) -> None:
    """Show a stored package."""
    with _client(api, token_file, project) as client:
        view = client.get_package(_digest(client, which))
    if output is Output.JSON:
        _show([view], output)
        return
    for field, value in view.model_dump(mode="json").items():
        typer.echo(f"{field}\t{value if isinstance(value, str) else json.dumps(value)}")


@app.command()
def download(
    which: Which,
    file: Annotated[Path, typer.Option("-o", "--output", help="The archive to write.")] = Path(
        "package.tgz"
    ),
    api: Api = "",
    token_file: TokenFile = None,
    project: OfProject = "default",
) -> None:
    """Write a stored package's archive, checked against its SHA-256."""
    with _client(api, token_file, project) as client:
        typer.echo(str(client.download_package(file, _digest(client, which))))


@app.command("activate")
def activate_one(
    which: Which,
    output: As = Output.HUMAN,
    api: Api = "",
    token_file: TokenFile = None,
    project: OfProject = "default",
) -> None:
    """Have new sessions pin this package. Refused once a session has used another: then initialise."""
    with _client(api, token_file, project) as client:
        _tell(client.activate_package(_digest(client, which)), output)


@app.command()
def deactivate(
    output: As = Output.HUMAN,
    api: Api = "",
    token_file: TokenFile = None,
    project: OfProject = "default",
) -> None:
    """Have new sessions pin no package. Refused once a session has used one."""
    with _client(api, token_file, project) as client:
        _tell(client.deactivate_package(), output)


@app.command()
def active(
    output: As = Output.HUMAN,
    api: Api = "",
    token_file: TokenFile = None,
    project: OfProject = "default",
) -> None:
    """Say which package new sessions pin, and whether it can still be replaced."""
    with _client(api, token_file, project) as client:
        _tell(client.get_federation(), output)


@app.command()
def initialise(
    which: Which,
    model: Annotated[str, typer.Option(help="The seed model's SHA-256.")],
    output: As = Output.HUMAN,
    api: Api = "",
    token_file: TokenFile = None,
    project: OfProject = "default",
) -> None:
    """Begin anew with a package and a seed model. Sessions that run keep theirs."""
    with _client(api, token_file, project) as client:
        _tell(client.initialise(_digest(client, which), model), output)


def _client(api: str, token_file: Path | None, project: str) -> APIClient:
    token = _access.content(token_file) if token_file is not None else None
    return APIClient(api or None, token=token, project=project)


def _digest(client: APIClient, which: str) -> str:
    """Find the one package that is meant. Raises `BadOption` where it is none or several."""
    if len(which) == DIGEST_CHARS:
        return which
    rows = list(client.get_packages())
    meant = [one for one in rows if one.name == which] or [
        one for one in rows if one.digest.startswith(which.lower())
    ]
    if len(meant) == 1:
        return meant[0].digest
    if not meant:
        raise BadOption(f"no package has the name {which!r} or a SHA-256 that begins so")
    found = ", ".join(one.digest[:SHOWN_CHARS] for one in meant[:8])
    raise BadOption(f"{which!r} means several packages: {found}; name its SHA-256")


def _show(views: Iterable[PackageView], output: Output) -> None:
    if output is Output.HUMAN:
        typer.echo("package\tname\tbytes\tactive\tcreated")
    for one in views:
        if output is Output.JSON:
            typer.echo(_json(one))
        else:
            mark = "active" if one.active else "-"
            since = f"{one.created:%Y-%m-%d %H:%M}"
            typer.echo(f"{one.digest}\t{one.name or '-'}\t{one.size}\t{mark}\t{since}")


def _tell(view: FederationView, output: Output) -> None:
    if output is Output.JSON:
        typer.echo(_json(view))
        return
    what = "no package" if view.package is None else f"package {view.package}"
    typer.echo(f"generation {view.generation}: new sessions pin {what}")
    if view.configured:
        typer.echo(
            f"session {view.session} has used it, so it is not replaced: begin anew with "
            "fedbus package initialise"
        )


def _json(view: Message) -> str:
    return json.dumps(view.model_dump(mode="json"), ensure_ascii=False)
