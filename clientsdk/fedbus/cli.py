"""The `fedbus` command: gathers the sub-commands of every installed part of fedbus.

A part offers a `typer.Typer` as an entry point of the group `fedbus.commands`. Its commands appear under
the entry point's name (`fedbus audit verify`); those of the one called `local` appear at the top
(`fedbus up`). Parts of the same name share a group.
"""

import logging
import sys
import time
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Annotated, cast

import typer

from fedbus._enrolment import default_name, enrol
from fedbus._functions import find_function
from fedbus._version import __version__
from fedbus.client import run
from fedbus.errors import FedbusError
from fedbus.exit_codes import exit_code
from fedbus.gateway.commands import install, start
from fedbus.packages.commands import package
from fedbus.trainer import TrainFunction, ValidateFunction

GROUP = "fedbus.commands"
TOP = "local"

log = logging.getLogger("fedbus")

client = typer.Typer(no_args_is_help=True, help="Take part in a federation.")


@client.command("run")
def run_client(
    train: Annotated[str, typer.Option(help="The train function, as module:function.")],
    credentials: Annotated[Path, typer.Option(help="The credentials file, of mode 0600.")],
    validate: Annotated[str, typer.Option(help="The validate function, if any.")] = "",
    state_dir: Annotated[Path | None, typer.Option(help="Keeps finished updates.")] = None,
    cache_dir: Annotated[Path | None, typer.Option(help="Keeps fetched models.")] = None,
    alive_file: Annotated[
        Path | None, typer.Option(help="Touched at every heartbeat; see fedbus client healthy.")
    ] = None,
    policy: Annotated[Path | None, typer.Option(help="The data owner's policy file.")] = None,
) -> None:
    """Run a client with your own functions until Ctrl-C or SIGTERM.

    Example: fedbus client run --train trainer:train --credentials site-1.json
    """
    run(
        train=cast(TrainFunction, find_function(train)),
        validate=cast(ValidateFunction, find_function(validate)) if validate else None,
        credentials=credentials,
        state_dir=state_dir,
        cache_dir=cache_dir,
        alive_file=alive_file,
        policy=policy,
    )


client.command()(start)
client.command()(install)


@client.command("enrol")
def enrol_device(
    api: Annotated[str, typer.Argument(help="Where the api is: https://fl.example.org")],
    join_token: Annotated[
        str, typer.Argument(help="The join token (flj_…), or - to read it from the input.")
    ],
    credentials: Annotated[
        Path, typer.Option("-o", "--credentials", help="Where to write the credentials file.")
    ] = Path("client.json"),
    name: Annotated[str, typer.Option(help="A name for people; kept in the registry only.")] = "",
    ca: Annotated[
        Path | None, typer.Option(help="Certificates (PEM) that vouch for the api.")
    ] = None,
) -> None:
    """Make this device's keys, join with a token, and write the credentials that it starts with.

    The keys never leave the device. After a failure say the same again: no second place is used up.

    Example: fedbus client enrol https://fl.example.org flj_… --name site-1
    """
    token = sys.stdin.readline().strip() if join_token == "-" else join_token  # noqa: S105
    made = enrol(api, token, credentials, name=name or default_name(), ca=ca)
    typer.echo(f"{made.name} has joined project {made.project}; its credentials: {credentials}")


@client.command()
def healthy(
    alive_file: Annotated[Path, typer.Argument(help="The client's --alive-file.")],
    within_s: Annotated[float, typer.Option(min=1, help="So old may it be, in seconds.")] = 60.0,
) -> None:
    """End with 0 if the servers answered this client's heartbeat lately, else with 1.

    Example: fedbus client healthy /var/lib/fedbus/alive
    """
    try:
        age_s = time.time() - alive_file.stat().st_mtime
    except FileNotFoundError:
        typer.echo(f"{alive_file} is not there: no heartbeat was answered yet")
        raise typer.Exit(1) from None
    typer.echo(f"the last heartbeat was answered {max(age_s, 0):.0f} s ago")
    raise typer.Exit(0 if age_s <= within_s else 1)


def main() -> int:
    """Run the command line. Errors of ours are one line, not a traceback; docs/cli.md has the exit codes."""
    try:
        gather(entry_points(group=GROUP))(prog_name="fedbus")
    except FedbusError as error:
        print(f"fedbus: {error}", file=sys.stderr)
        return exit_code(error)
    return 0


def gather(parts: Iterable[EntryPoint]) -> typer.Typer:
    """Make one command of all parts. A part that cannot be loaded is left out, with a warning."""
    app = typer.Typer(no_args_is_help=True)
    app.callback()(_top)
    groups = _operator_groups()
    for name, offered in (("client", client), ("package", package)):
        _merge(groups.setdefault(name, typer.Typer(no_args_is_help=True)), offered)
    for part in sorted(parts, key=lambda part: part.name):
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
