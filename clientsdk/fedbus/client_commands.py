"""`fedbus client …` on the machine that takes part: run, start, install, enrol, healthy."""

import sys
import time
from pathlib import Path
from typing import Annotated, cast

import typer

from fedbus._enrolment import default_name, enrol
from fedbus._functions import find_function
from fedbus.client import run
from fedbus.gateway.commands import install, start
from fedbus.trainer import TrainFunction, ValidateFunction

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
