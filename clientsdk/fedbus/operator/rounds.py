"""`fedbus round …`: show a round, explain it, draw where its time went."""

import shutil
import sys
from typing import Annotated

import typer

from fedbus import _waterfall
from fedbus.operator.asking import Ask, command
from fedbus.operator.printing import Output

app = typer.Typer(no_args_is_help=True)

Session = Annotated[str, typer.Argument(help="The session.")]
Number = Annotated[int, typer.Argument(min=1, metavar="ROUND", help="The round's number.")]
Attempt = Annotated[int | None, typer.Option(min=1, help="The attempt; unset = the last one.")]


@command(app, "get")
def get(ask: Ask, session: Session, number: Number) -> None:
    """Show a round with all its attempts: who was asked, counted, refused, missing.

    Example: fedbus round get digits-1 3 -o yaml
    """
    view = ask.api.get_round(session, number)
    if ask.output is not Output.HUMAN:
        ask.show(view)
        return
    for attempt in view.attempts:
        ask.show(attempt)
        print()


@command(app, "explain")
def explain(
    ask: Ask,
    session: Session,
    number: Number,
    attempt: Attempt = None,
    client: Annotated[
        list[str] | None, typer.Option(help="Only this client, by name or pseudonym; repeatable.")
    ] = None,
    standing: Annotated[
        list[str] | None, typer.Option(help="Only such clients, as late or refused; repeatable.")
    ] = None,
) -> None:
    """Say of each client why it was asked or not, why its update counted or not; and what took how long.

    Example: fedbus round explain digits-1 3 --standing late --standing refused
    """
    view = ask.api.explain_round(
        session, number, attempt, clients=client or (), standings=standing or ()
    )
    if ask.output is not Output.HUMAN:
        ask.show(view)
        return
    print(f"{view.summary}\n")
    ask.rows(view.clients, ("client", "name", "standing", "code", "stored_s", "why"))
    if view.left_out:
        print(f"… and {view.left_out} more clients")
    print()
    ask.rows(view.phases, ("name", "seconds", "why"))


@command(app, "trace")
def trace(
    ask: Ask,
    session: Session,
    number: Number,
    attempt: Attempt = None,
    clients: Annotated[
        int, typer.Option(min=1, help="So many clients at most, the slowest ones.")
    ] = 20,
) -> None:
    """Draw a round's waterfall from the log, without any backend.

    Clients' stretches are the lengths that they signed, laid before the moment their update came. The
    trace's id finds the round in Jaeger, where traces are sent (docs/tracing.md).

    Example: fedbus round trace digits-1 3
    """
    view = ask.api.get_round_timeline(session, number, attempt)
    if ask.output is not Output.HUMAN:
        ask.show(view)
        return
    names = {one.client: one.name for one in ask.api.get_clients()}
    blocks = "utf" in (sys.stdout.encoding or "").lower()
    form = _waterfall.Form(
        width=shutil.get_terminal_size((100, 24)).columns,
        bar="█" if blocks else "#",
        clients_max=clients,
    )
    for line in _waterfall.waterfall(view, names, form):
        print(line)
