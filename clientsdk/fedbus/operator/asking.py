"""What the operator's commands share: whom they ask, how they print, and how they end.

A command is a function whose first argument is an `Ask`; the options for it (`--context`, `--api`,
`--token-file`, `--project`, `-o`) are added here, alike for every command.
"""

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Concatenate, ParamSpec

import typer
from fedbus_schemas.wire import Message

from fedbus.api import APIClient
from fedbus.api._access import content
from fedbus.errors import BadOption
from fedbus.operator import printing
from fedbus.operator.printing import Output

P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Ask:
    """Whom a command asks, and how it prints what it is told."""

    api: APIClient
    output: Output

    def show(self, view: Message) -> None:
        """Write one thing."""
        printing.one(view, self.output)

    def rows(self, views: Iterable[Message], columns: Sequence[str]) -> None:
        """Write a list, for people with these columns of it."""
        printing.rows(views, columns, self.output)

    def done(self, view: Message, text: str) -> None:
        """Write what came of an order: a sentence for people, else the view."""
        if self.output is Output.HUMAN:
            print(text)
        else:
            printing.one(view, self.output)


def command(
    app: typer.Typer, name: str
) -> Callable[[Callable[Concatenate[Ask, P], None]], Callable[Concatenate[Ask, P], None]]:
    """Make a function a command of a group, with the options that all of them have."""

    def register(
        function: Callable[Concatenate[Ask, P], None],
    ) -> Callable[Concatenate[Ask, P], None]:
        own = list(inspect.signature(function).parameters.values())[1:]
        app.command(name)(asking(function, own, inspect.getdoc(function) or ""))
        return function

    return register


def asking(
    function: Callable[..., None], own: Sequence[inspect.Parameter], text: str
) -> Callable[..., None]:
    """Give a function with the options `own` and the common ones, for typer to read."""

    def run(**given: object) -> None:
        common = {parameter.name: given.pop(parameter.name) for parameter in _COMMON}
        with _client(**common) as api:  # type: ignore[arg-type]
            function(Ask(api, Output(str(common["output"]))), **given)

    keywords = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in [*own, *_COMMON]]
    run.__dict__["__signature__"] = inspect.Signature(keywords)
    run.__annotations__ = {}
    run.__doc__ = text
    return run


def option(name: str, annotation: object, default: object) -> inspect.Parameter:
    """Describe an option."""
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=annotation)


def _client(
    *,
    context: str | None,
    api: str | None,
    token_file: Path | None,
    project: str | None,
    output: Output,
) -> APIClient:
    del output
    token = content(token_file) if token_file is not None else None
    return APIClient(api, token=token, project=project, context=context)


def pairs(given: Sequence[str], flag: str) -> list[tuple[str, str]]:
    """Read `NAME=VALUE`s. Raises `BadOption`."""
    found = [one.partition("=") for one in given]
    for (name, equals, _), text in zip(found, given, strict=True):
        if not (name and equals):
            raise BadOption(f"{flag} {text!r} is not of the form NAME=VALUE")
    return [(name, value) for name, _, value in found]


_PANEL = "Whom to ask, and how to print"
_COMMON = (
    option(
        "context",
        Annotated[
            str | None,
            typer.Option(help="A saved context; see fedbus context.", rich_help_panel=_PANEL),
        ],
        None,
    ),
    option(
        "api",
        Annotated[
            str | None,
            typer.Option(
                help="The api's address, as https://fl.example.org; also FEDBUS_API_URL.",
                rich_help_panel=_PANEL,
            ),
        ],
        None,
    ),
    option(
        "token_file",
        Annotated[
            Path | None,
            typer.Option(
                help="The file that holds the bearer token; also FEDBUS_API_TOKEN_FILE.",
                rich_help_panel=_PANEL,
            ),
        ],
        None,
    ),
    option(
        "project",
        Annotated[
            str | None,
            typer.Option(help="The project; also FEDBUS_PROJECT.", rich_help_panel=_PANEL),
        ],
        None,
    ),
    option(
        "output",
        Annotated[
            Output,
            typer.Option("-o", "--output", help="For whom to print.", rich_help_panel=_PANEL),
        ],
        Output.HUMAN,
    ),
)
