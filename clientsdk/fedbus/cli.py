"""The `fedbus` command: gathers the sub-commands of every installed part of fedbus.

A part offers a `typer.Typer` as an entry point of the group `fedbus.commands`. Its commands appear under
the entry point's name (`fedbus audit verify`); those of the one called `local` appear at the top
(`fedbus up`). Parts of the same name share a group.
Only the parts that the first word names are loaded; where it names none, all are.
"""

import logging
import sys
from collections.abc import Container, Iterable, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated

import typer

from fedbus._version import __version__
from fedbus.errors import FedbusError
from fedbus.exit_codes import exit_code

GROUP = "fedbus.commands"
TOP = "local"
OWN = (
    EntryPoint("client", "fedbus.client_commands:client", GROUP),
    EntryPoint("package", "fedbus.packages.commands:package", GROUP),
)
"""The SDK's parts whose names its metadata has for other parts already."""

log = logging.getLogger("fedbus")


def main() -> int:
    """Run the command line. Errors of ours are one line, not a traceback; docs/cli.md has the exit codes."""
    try:
        gather(entry_points(group=GROUP), *sys.argv[1:2])(prog_name="fedbus")
    except FedbusError as error:
        print(f"fedbus: {error}", file=sys.stderr)
        return exit_code(error)
    return 0


def gather(parts: Iterable[EntryPoint], word: str = "") -> typer.Typer:
    """Make one command of all parts, or of those that the first word on the command line needs.

    A part that cannot be loaded is left out, with a warning.
    """
    app = typer.Typer(no_args_is_help=True)
    app.callback()(_top)
    groups = _operator_groups()
    for part in _needed([*OWN, *sorted(parts, key=lambda part: part.name)], word, groups):
        loaded = _load(part)
        if loaded is None:
            continue
        if part.name == TOP:
            _merge(app, loaded)
        elif part.name in groups:
            _merge(groups[part.name], loaded)
        else:
            groups[part.name] = loaded
    for name, group in sorted(groups.items()):
        app.add_typer(group, name=name)
    return app


def _needed(parts: Sequence[EntryPoint], word: str, groups: Container[str]) -> Sequence[EntryPoint]:
    """Give the parts of the group that a word names; all of them if it names none."""
    named = [part for part in parts if part.name == word != TOP]
    return named if named or word in groups else parts


def _top(
    *,
    _version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=lambda on: _show(on))
    ] = False,
) -> None:
    """Federated learning on a message bus."""


def _show(on: bool) -> None:
    if on:
        print(f"fedbus {__version__}")
        raise typer.Exit


def _operator_groups() -> dict[str, typer.Typer]:
    """Give the operator's commands; a gateway's image, which has no httpx, has none of them."""
    try:
        from fedbus import operator
    except ModuleNotFoundError as error:
        if error.name != "httpx":
            raise
        return {}
    return operator.groups()


def _load(part: EntryPoint) -> typer.Typer | None:
    try:
        offered: object = part.load()
    except (ImportError, AttributeError) as error:
        log.warning("the commands of %r cannot be loaded: %s", part.name, error)
        return None
    if isinstance(offered, typer.Typer):
        return offered
    log.warning("the commands of %r are no typer.Typer", part.name)
    return None


def _merge(into: typer.Typer, offered: typer.Typer) -> None:
    into.registered_commands.extend(offered.registered_commands)
    into.registered_groups.extend(offered.registered_groups)
