"""`fedbus client add | allowed | remove`: who may join, and the credentials file that lets one do so."""

import json
from pathlib import Path
from typing import Annotated

import typer

from fedbus_local import clients, ports
from fedbus_local.errors import LocalError
from fedbus_local.options import (
    DEFAULT_DIRECTORY,
    As,
    Directory,
    Output,
    complaints,
    console,
    reporting_errors,
)
from fedbus_local.stack import LocalStack

app = typer.Typer(no_args_is_help=True, help="Clients that may join the local stack.")

Project = Annotated[str, typer.Option(help="The project in which the client takes part.")]


@app.command()
def add(
    name: str,
    file: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the credentials here.")
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="The address by which the client's machine reaches this one.")
    ] = None,
    project: Project = clients.DEFAULT_PROJECT,
    websocket: Annotated[
        bool,
        typer.Option(
            "--websocket", help="The client reaches NATS by WebSocket, where only HTTP gets out."
        ),
    ] = False,
    directory: Directory = DEFAULT_DIRECTORY,
) -> None:
    """Make a client's keys, let it join, and write the file that it starts with: keep that file secret.

    Example: fedbus client add site-1
    """
    stack = LocalStack(directory)
    with reporting_errors():
        if file is not None and file.exists():
            raise LocalError(f"{file} exists; credentials are not overwritten")
        [made] = stack.make_credentials([name], project, host, websocket=websocket)
        path = stack.write_credentials(made, file)
        console.print(f"{name} may join project {project}. Its credentials, for it alone: {path}")
        _warn(stack, host)


@app.command()
def allowed(directory: Directory = DEFAULT_DIRECTORY, output: As = Output.HUMAN) -> None:
    """List the clients that may join the local stack; those that joined a project: fedbus client list.

    Example: fedbus client allowed
    """
    known = clients.listed(LocalStack(directory).layout)
    if output is Output.JSON:
        console.print_json(json.dumps([each.model_dump(mode="json") for each in known]))
        return
    for each in known:
        console.print(
            f"{each.name:<20} {each.project:<12} {each.device} since {each.added:%Y-%m-%d %H:%M}"
        )
    if not known:
        console.print("No clients yet; add one with: fedbus client add NAME")


@app.command()
def remove(
    name: str,
    project: Project = clients.DEFAULT_PROJECT,
    directory: Directory = DEFAULT_DIRECTORY,
) -> None:
    """Let a client join no more; a live connection is cut.

    Example: fedbus client remove site-1
    """
    with reporting_errors():
        LocalStack(directory).remove_client(name, project)
    console.print(f"{name} may join project {project} no more.")


def _warn(stack: LocalStack, host: str | None) -> None:
    """Say what would keep a client on another machine from joining."""
    if host is None or ports.is_loopback(host):
        return
    listens = stack.plan.host
    if ports.is_loopback(listens):
        complaints.print(
            f"[yellow]NATS and the store listen on {listens} only, so no other machine can reach them. "
            f"Change that with: fedbus down, then fedbus up --host 0.0.0.0 --public-host {host}[/]"
        )
    elif host != stack.plan.public_host:
        complaints.print(
            f"[yellow]Models and updates travel over {stack.plan.public_host}, not {host}. "
            f"If the client cannot reach that: fedbus down, then fedbus up --public-host {host}[/]"
        )
