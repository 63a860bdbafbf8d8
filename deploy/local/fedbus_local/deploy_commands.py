"""`fedbus deploy prepare`: keys, certificates and configuration for services that run apart."""

from pathlib import Path
from typing import Annotated

import typer

from fedbus_local import clients, deployment
from fedbus_local.options import console, reporting_errors

app = typer.Typer(no_args_is_help=True, help="Deployments of services apart from each other.")


@app.callback()
def _deploy() -> None:
    """Keep `prepare` a sub-command, also while it is the only one."""


@app.command()
def prepare(
    folder: Annotated[Path, typer.Argument(help="Where to write; made if it is missing.")],
    host: Annotated[
        list[str] | None,
        typer.Option(help="A name by which NATS is reached; the first goes into credentials."),
    ] = None,
    client: Annotated[
        list[str] | None, typer.Option(help="A client that may join; repeat for more.")
    ] = None,
    project: Annotated[str, typer.Option(help="The clients' project.")] = clients.DEFAULT_PROJECT,
    owner: Annotated[
        int | None, typer.Option(help="The user id that the services' folders go to; as root only.")
    ] = None,
) -> None:
    """Make what is missing, keep what is there. Again with more clients: nothing has to be restarted.

    Example: fedbus deploy prepare ./secrets --host nats.example.org --client site-1 --client site-2
    """
    wanted = deployment.Deployment(
        names=tuple(host or deployment.NAMES), project=project, clients=client or (), owner=owner
    )
    with reporting_errors():
        added = deployment.write(folder, wanted)
    console.print(f"Written to {folder}; its state/ holds every secret: keep it safe.")
    for name in added:
        console.print(f"{name} may join; its credentials: {folder / 'clients' / f'{name}.json'}")
