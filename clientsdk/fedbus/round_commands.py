"""`fedbus round trace`: where a round's time went, drawn in the terminal without any backend."""

import json
import shutil
import sys
from typing import Annotated

import typer
from fedbus_schemas.views import ClientView, TimelineView

from fedbus import _waterfall
from fedbus.api import _access
from fedbus.api._sync.connection import Connection
from fedbus.record_commands import Api, As, OfProject, Output, TokenFile

app = typer.Typer(no_args_is_help=True, help="Rounds of a session.")


@app.callback()
def _group() -> None:
    """Keep `trace` a sub-command, also while it is the only one."""


@app.command("trace")
def trace(
    session: Annotated[str, typer.Argument(help="The session.")],
    number: Annotated[int, typer.Argument(min=1, metavar="ROUND", help="The round's number.")],
    attempt: Annotated[
        int | None, typer.Option(min=1, help="The attempt; unset = the last one.")
    ] = None,
    clients: Annotated[
        int, typer.Option(min=1, help="So many clients at most, the slowest ones.")
    ] = 20,
    output: As = Output.HUMAN,
    api: Api = "",
    token_file: TokenFile = None,
    project: OfProject = "default",
) -> None:
    """Draw a round's waterfall from the log: `fedbus round trace mnist-1 3`.

    Clients' stretches are the lengths that they signed, laid before the moment their update came. The
    trace's id finds the round in Jaeger, where traces are sent (docs/tracing.md).
    """
    token = _access.content(token_file) if token_file is not None else None
    connection = Connection(_access.find(api or None, token=token, project=project))
    asked = {"attempt": [str(attempt)]} if attempt is not None else {}
    path = f"/v1/sessions/{session}/rounds/{number}/timeline"
    view = connection.get(TimelineView, path, asked)
    if output is Output.JSON:
        typer.echo(json.dumps(view.model_dump(mode="json")))
        return
    names = {
        one.client: one.name for one in connection.rows(ClientView, "/v1/clients", {}, None, None)
    }
    blocks = "utf" in (sys.stdout.encoding or "").lower()
    form = _waterfall.Form(
        width=shutil.get_terminal_size((100, 24)).columns,
        bar="█" if blocks else "#",
        clients_max=clients,
    )
    for line in _waterfall.waterfall(view, names, form):
        typer.echo(line)
