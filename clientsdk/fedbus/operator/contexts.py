"""`fedbus context …`: saved apis, by name."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from fedbus_schemas.wire import Message

from fedbus.api import _contexts
from fedbus.api._contexts import LOCAL, Context
from fedbus.errors import BadOption
from fedbus.operator import printing
from fedbus.operator.printing import Output

app = typer.Typer(no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The context's name.")]
As = Annotated[Output, typer.Option("-o", "--output", help="For whom to print.")]


class Shown(Message):
    """A context without its secret."""

    name: str
    used: bool
    url: str
    project: str
    token: str


@app.command()
def add(
    name: Name,
    url: Annotated[str, typer.Argument(help="The api's address, as https://fl.example.org.")],
    token_file: Annotated[
        Path | None, typer.Option(help="The file that holds the bearer token; read at each use.")
    ] = None,
    token_stdin: Annotated[
        bool, typer.Option("--token-stdin", help="Read the token from standard input and keep it.")
    ] = False,
    project: Annotated[str, typer.Option(help="The project.")] = "default",
    ca_file: Annotated[
        Path | None, typer.Option(help="The certificates that are trusted, as a PEM file.")
    ] = None,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Do not check the certificate: for trials only.")
    ] = False,
    use: Annotated[bool, typer.Option("--use/--no-use", help="Use it from now on.")] = True,
) -> None:
    """Save an api under a name, and use it from now on.

    Example: fedbus context add prod https://fl.example.org --project trial --token-file ~/fl.token
    """
    if name == LOCAL:
        raise BadOption(f"{LOCAL!r} is the local stack; take another name")
    if "://" not in url:
        raise BadOption(f"{url!r} is no address; write it as https://{url}")
    saved = _contexts.load()
    made = Context(
        url=url.rstrip("/"),
        project=project,
        token=sys.stdin.read().strip() if token_stdin else None,
        token_file=str(token_file.expanduser().absolute()) if token_file else None,
        ca_file=str(ca_file.expanduser().absolute()) if ca_file else None,
        verify=not no_verify,
    )
    changed = {"contexts": {**saved.contexts, name: made}, "used": name if use else saved.used}
    _contexts.save(saved.model_copy(update=changed))
    print(f"{name} is saved in {_contexts.place()}{', and used from now on' if use else ''}")


@app.command("list")
def show(output: As = Output.HUMAN) -> None:
    """List the saved contexts; `local` is the local stack of the folder.

    Example: fedbus context list
    """
    saved = _contexts.load()
    used = os.environ.get("FEDBUS_CONTEXT") or saved.used
    found = [Shown(name=LOCAL, used=used == LOCAL, url="", project="default", token="its own")]  # noqa: S106  # says where it lies
    found += [
        Shown(
            name=name,
            used=used == name,
            url=one.url,
            project=one.project,
            token=one.token_file or ("kept" if one.token else "none"),
        )
        for name, one in sorted(saved.contexts.items())
    ]
    printing.rows(found, ("name", "used", "url", "project", "token"), output)


@app.command()
def use(name: Name) -> None:
    """Use a context from now on; `local` is the local stack of the folder.

    Example: fedbus context use prod
    """
    _contexts.chosen(name)
    _contexts.save(_contexts.load().model_copy(update={"used": name}))
    print(f"{name} is used from now on")


@app.command()
def remove(name: Name) -> None:
    """Forget a context.

    Example: fedbus context remove prod
    """
    saved = _contexts.load()
    if name not in saved.contexts:
        raise BadOption(f"there is no context {name!r}")
    left = {one: kept for one, kept in saved.contexts.items() if one != name}
    used = LOCAL if saved.used == name else saved.used
    _contexts.save(saved.model_copy(update={"contexts": left, "used": used}))
    print(f"{name} is forgotten")
