"""Clients, attributes, dead letters, tokens, rules: who takes part, and what an operator sees to."""

from typing import Annotated

import typer
from fedbus_schemas.ids import ClientId
from fedbus_schemas.views import ClientView
from fedbus_schemas.wire import Message

from fedbus.api import ApiError
from fedbus.operator import naming
from fedbus.operator.asking import Ask, command
from fedbus.operator.printing import Output

client = typer.Typer(no_args_is_help=True)
attributes = typer.Typer(no_args_is_help=True)
dead_letter = typer.Typer(no_args_is_help=True)
token = typer.Typer(no_args_is_help=True)
aggregator = typer.Typer(no_args_is_help=True)
project = typer.Typer(no_args_is_help=True)
combiner = typer.Typer(no_args_is_help=True)

Who = Annotated[str, typer.Argument(metavar="CLIENT", help="Its name or pseudonym.")]
Letter = Annotated[int, typer.Argument(min=1, metavar="SEQUENCE", help="The dead letter's number.")]
DAY_S = 86_400


class Meant(Message):
    """Whether a query means a client, and why it does not."""

    client: ClientId
    meant: bool = True
    why: str = ""


@command(client, "get")
def get_client(ask: Ask, who: Who) -> None:
    """Show a client: whether it is online, its keys, since when it takes part.

    Example: fedbus client get site-1
    """
    ask.show(_client(ask, who))


@command(client, "rename")
def rename(ask: Ask, who: Who, name: Annotated[str, typer.Argument(help="The new name.")]) -> None:
    """Give a client another name.

    Example: fedbus client rename site-1 hospital-north
    """
    view = ask.api.rename_client(naming.client(ask.api, who), name)
    ask.done(view, f"{view.client} is named {view.name} now")


@command(client, "erase")
def erase(
    ask: Ask,
    who: Who,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Forget who a client was: its pseudonym stays in the log, its name is nowhere any more.

    Example: fedbus client erase site-1 --yes
    """
    view = _client(ask, who)
    if not yes:
        typer.confirm(f"Forget for good that {view.client} is {view.name}?", abort=True)
    ask.api.erase_client(view.client)
    ask.done(view, f"nobody can tell any more who {view.client} was")


@command(combiner, "get")
def get_combiner(
    ask: Ask, name: Annotated[str, typer.Argument(help="The combiner's name.")]
) -> None:
    """Show a combiner: the last round it worked on, and when.

    Example: fedbus combiner get combiner-1
    """
    ask.show(ask.api.get_combiner(name))


@command(attributes, "match")
def match(
    ask: Ask,
    conditions: Annotated[str, typer.Argument(help="As 'site=eu,gpu>=1'.")],
    ids: Annotated[
        list[str] | None, typer.Option("--client", help="Only these clients; repeatable.")
    ] = None,
) -> None:
    """Say which clients meet conditions, and why each other one does not.

    Example: fedbus attributes match 'site=eu,gpu>=1'
    """
    answer = ask.api.select_clients(conditions, ids or ())
    found = [Meant(client=one) for one in answer.chosen]
    found += [Meant(client=one, meant=False, why=why) for one, why in answer.left_out.items()]
    ask.rows(found, ("client", "meant", "why"))


@command(dead_letter, "get")
def get_letter(ask: Ask, sequence: Letter) -> None:
    """Show a dead letter with its content.

    Example: fedbus dead-letter get 7 -o json
    """
    ask.show(ask.api.get_dead_letter(sequence))


@command(dead_letter, "retry")
def retry(ask: Ask, sequence: Letter) -> None:
    """Have a dead letter delivered again, after its cause was mended.

    Example: fedbus dead-letter retry 7
    """
    ask.done(ask.api.retry_dead_letter(sequence), f"dead letter {sequence} is delivered again")


@command(dead_letter, "drop")
def drop(ask: Ask, sequence: Letter) -> None:
    """Delete a dead letter for good.

    Example: fedbus dead-letter drop 7
    """
    ask.done(ask.api.drop_dead_letter(sequence), f"dead letter {sequence} is deleted")


@command(token, "add")
def add_token(
    ask: Ask,
    name: Annotated[str, typer.Argument(help="For whom.")],
    role: Annotated[str, typer.Option(help="viewer, auditor, operator or admin.")] = "viewer",
    days: Annotated[float | None, typer.Option(min=0.001, help="How long it holds.")] = None,
    everywhere: Annotated[bool, typer.Option("--everywhere", help="In every project.")] = False,
) -> None:
    """Make a bearer token. It is shown this once: only its SHA-256 is kept.

    Example: fedbus token add anna --role operator --days 30
    """
    lifetime_s = None if days is None else round(days * DAY_S)
    made = ask.api.add_token(name, role, lifetime_s=lifetime_s, everywhere=everywhere)
    ask.done(made, made.bearer)


@command(token, "revoke")
def revoke(
    ask: Ask, which: Annotated[str, typer.Argument(metavar="TOKEN", help="The token's id.")]
) -> None:
    """Let a token count no more.

    Example: fedbus token revoke t1a2b3
    """
    ask.done(ask.api.revoke_token(which), f"{which} counts no more")


@command(aggregator, "list")
def list_aggregators(ask: Ask) -> None:
    """List the aggregation rules; -o json has the schema of their parameters.

    Example: fedbus aggregator list
    """
    ask.rows(ask.api.get_aggregators(), ("name", "rule", "updates_min", "description"))


@command(aggregator, "get")
def get_aggregator(ask: Ask, name: Annotated[str, typer.Argument(help="As fedavgm.")]) -> None:
    """Show an aggregation rule with its parameters.

    Example: fedbus aggregator get fedavgm -o yaml
    """
    for one in ask.api.get_aggregators():
        if one.name == name:
            ask.show(one)
            return
    raise ApiError("not_found", f"aggregator {name}", 404)


@command(project, "get")
def get_project(ask: Ask) -> None:
    """Show the project at a glance: sessions by phase, clients, what is stuck, which servers answer.

    Example: fedbus project get
    """
    ask.show(ask.api.get_controller_status())


@command(project, "whoami")
def whoami(ask: Ask) -> None:
    """Show who you are for the api, and in which roles.

    Example: fedbus project whoami
    """
    view = ask.api.whoami()
    if ask.output is not Output.HUMAN:
        ask.show(view)
        return
    print(f"{view.name} ({view.kind})")
    ask.rows(view.roles, ("role", "project"))


def _client(ask: Ask, who: str) -> ClientView:
    return ask.api.get_client(naming.client(ask.api, who))
