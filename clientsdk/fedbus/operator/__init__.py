"""The operator's commands: what `fedbus` asks of an api, from wherever it is installed."""

import typer

from fedbus.operator import contexts, lists, models, people, rounds, sessions
from fedbus.operator.tables import GROUPS, LISTINGS


def groups() -> dict[str, typer.Typer]:
    """Give the commands by their group."""
    found = {name: typer.Typer(no_args_is_help=True, help=text) for name, text in GROUPS.items()}
    for listing in LISTINGS:
        lists.add(found[listing.group], listing)
    for name, offered in _WRITTEN.items():
        found[name].registered_commands.extend(offered.registered_commands)
    return found


_WRITTEN = {
    "session": sessions.app,
    "round": rounds.app,
    "model": models.model,
    "stage": models.stage,
    "package": models.package,
    "client": people.client,
    "combiner": people.combiner,
    "attributes": people.attributes,
    "dead-letter": people.dead_letter,
    "token": people.token,
    "aggregator": people.aggregator,
    "project": people.project,
    "context": contexts.app,
}
