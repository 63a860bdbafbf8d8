"""`list` and `count` of everything that the api lists, made from one table."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Protocol

import typer
from fedbus_schemas.wire import Message

from fedbus.api import APIClient
from fedbus.api._asked import Filters
from fedbus.operator import naming
from fedbus.operator.asking import Ask, asking, option, pairs

LIMIT_MAX = 1_000_000


class Rows(Protocol):
    """A method of the client's that lists."""

    def __call__(
        self,
        api: APIClient,
        /,
        *,
        n_max: int | None,
        filters: Filters,
        sort: str | None,
    ) -> Iterator[Message]:
        """List."""


class Count(Protocol):
    """A method of the client's that counts."""

    def __call__(self, api: APIClient, /, *, filters: Filters) -> int:
        """Count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A list: how it is got, what it is called, which columns people see, which filters have options."""

    what: str
    group: str
    rows: Rows
    count: Count | None = None
    columns: tuple[str, ...]
    options: dict[str, str]
    example: str
    name: str = "list"
    sort: str = ""


_MORE = option(
    "more",
    Annotated[
        list[str] | None,
        typer.Option(
            "--filter", "-f", help="FIELD=VALUE or FIELD__OPERATOR=VALUE, as the api's; repeatable."
        ),
    ],
    None,
)


def add(app: typer.Typer, listing: Listing) -> None:
    """Add the commands of a list to a group."""
    filters = [_filter(name, text) for name, text in listing.options.items()]
    sort = option(
        "sort",
        Annotated[str, typer.Option(help="By which field; - before it for the other way.")],
        listing.sort,
    )
    limit = option(
        "limit",
        Annotated[
            int, typer.Option("-n", "--limit", min=1, max=LIMIT_MAX, help="How many at most.")
        ],
        50,
    )

    def rows(ask: Ask, *, sort: str, limit: int, more: list[str] | None, **fields: str) -> None:
        asked = _asked(ask.api, more, fields)
        found = listing.rows(ask.api, n_max=limit, filters=asked, sort=sort or None)
        ask.rows(found, listing.columns)

    text = (
        f"List {listing.what}.\n\nExample: fedbus {listing.group} {listing.name} {listing.example}"
    )
    app.command(listing.name)(asking(rows, [*filters, _MORE, sort, limit], text))
    if listing.count is not None:
        _add_count(app, listing, listing.count, filters)


def _add_count(
    app: typer.Typer, listing: Listing, count: Count, filters: list[inspect.Parameter]
) -> None:
    def counted(ask: Ask, *, more: list[str] | None, **fields: str) -> None:
        print(count(ask.api, filters=_asked(ask.api, more, fields)))

    example = listing.example.partition(" --sort")[0].partition(" -n")[0]
    text = f"Count {listing.what.partition(',')[0]}.\n\nExample: fedbus {listing.group} count {example}"
    app.command("count")(asking(counted, [*filters, _MORE], text))


def _filter(name: str, text: str) -> inspect.Parameter:
    return option(name, Annotated[str, typer.Option(help=text)], "")


_RESOLVE: dict[str, Callable[[APIClient, str], str | list[str]]] = {
    "client": naming.clients,
    "model": naming.model,
}


def _asked(api: APIClient, more: list[str] | None, fields: dict[str, str]) -> Filters:
    asked: dict[str, str | list[str]] = {}
    for name, value in fields.items():
        if value:
            asked[name] = _RESOLVE[name](api, value) if name in _RESOLVE else value
    several: dict[str, list[str]] = {}
    for name, value in pairs(more or (), "--filter"):
        several.setdefault(name, []).append(value)
    return {**asked, **several}
