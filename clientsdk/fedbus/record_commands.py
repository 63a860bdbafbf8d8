"""`fedbus metrics | attributes | telemetry | results | status-events | backlog`: what clients logged."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from fedbus_schemas.ids import ClientId
from fedbus_schemas.record_views import (
    AttributeChangeView,
    AttributeView,
    BacklogView,
    MetricView,
    ResultView,
    SelectionView,
    StatusEventView,
    TelemetryView,
)
from fedbus_schemas.views import ClientView
from fedbus_schemas.wire import Message

from fedbus.api import _access
from fedbus.api._asked import Filters
from fedbus.api._sync.connection import Connection
from fedbus.errors import BadOption

LIMIT_MAX = 1_000_000
V = TypeVar("V", bound=Message)


class Output(StrEnum):
    """How items are written."""

    HUMAN = "human"
    JSON = "json"


Api = Annotated[str, typer.Option(help="The api's address, as http://host:8080.")]
TokenFile = Annotated[Path | None, typer.Option(help="The file that holds the bearer token.")]
OfProject = Annotated[str, typer.Option(help="The project.")]
OfClient = Annotated[str, typer.Option(help="Only of this client, by name or pseudonym.")]
OfSession = Annotated[str, typer.Option(help="Only of this session.")]
OfKey = Annotated[str, typer.Option(help="Only with this key.")]
OfLevel = Annotated[
    str, typer.Option(help="Only of this level: debug, info, warning, error, audit.")
]
More = Annotated[
    list[str] | None,
    typer.Option(
        "--filter", help="FIELD=VALUE or FIELD__OPERATOR=VALUE, as the api's; repeatable."
    ),
]
Sort = Annotated[str, typer.Option(help="By which field, - before it for the other way.")]
Limit = Annotated[int, typer.Option(min=1, max=LIMIT_MAX, help="How many at most.")]
As = Annotated[
    Output, typer.Option("-o", "--output", help="For people, or one JSON object a line.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Whom to ask, and for what."""

    api: Connection
    filters: Filters
    sort: str

    def items(self, kind: type[V], path: str, limit: int) -> Iterator[V]:
        """Give the items of a list."""
        return self.api.rows(kind, path, self.filters, self.sort, limit)


class Meant(Message):
    """Whether a query means a client, and why it does not."""

    client: ClientId
    meant: bool = True
    why: str = ""


def _connect(api: str, token_file: Path | None, project: str) -> Connection:
    """Give a connection. Raises `BadOption` when no api is known, or its token cannot be read."""
    token = _access.content(token_file) if token_file is not None else None
    return Connection(_access.find(api or None, token=token, project=project))


def _where(
    api: str,
    token_file: Path | None,
    project: str,
    client: str = "",
    more: Sequence[str] | None = None,
    sort: str = "",
    **fields: str,
) -> Where:
    connection = _connect(api, token_file, project)
    filters: dict[str, list[str]] = {name: [value] for name, value in fields.items() if value}
    for one in more or ():
        name, equals, value = one.partition("=")
        if not equals:
            raise BadOption(f"--filter {one!r} is not of the form FIELD=VALUE")
        filters.setdefault(name, []).append(value)
    if client:
        filters["client"] = _pseudonyms(connection, client)
    return Where(api=connection, filters=filters, sort=sort)


def _pseudonyms(api: Connection, client: str) -> list[str]:
    found = api.rows(ClientView, "/v1/clients", {"name": client}, None, None)
    return [one.client for one in found] or [client]


def _show(items: Iterable[Message], columns: Sequence[str], output: Output) -> None:
    """Write items as a table of tab-separated columns, or as JSON."""
    if output is Output.HUMAN:
        typer.echo("\t".join(columns))
    for one in items:
        fields = one.model_dump(mode="json", by_alias=True)
        if output is Output.JSON:
            typer.echo(json.dumps(fields, ensure_ascii=False))
        else:
            typer.echo("\t".join(_cell(fields.get(column)) for column in columns))


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return value.replace("\t", " ").replace("\n", " ")
    return json.dumps(value, ensure_ascii=False)


metrics = typer.Typer(no_args_is_help=True, help="Numbers that clients logged.")
attributes = typer.Typer(no_args_is_help=True, help="What clients say they are like.")
telemetry = typer.Typer(no_args_is_help=True, help="What clients observed.")
results = typer.Typer(no_args_is_help=True, help="What models answered at the clients.")
status_events = typer.Typer(no_args_is_help=True, help="Lines that clients wrote for people.")
backlog = typer.Typer(no_args_is_help=True, help="What waits at the clients to be sent.")


@metrics.callback()
@telemetry.callback()
@results.callback()
@status_events.callback()
@backlog.callback()
def _group() -> None:
    """Keep `list` a sub-command, also while it is the only one."""


@metrics.command("list")
def list_metrics(
    session: OfSession = "",
    client: OfClient = "",
    key: OfKey = "",
    more: More = None,
    sort: Sort = "",
    limit: Limit = 50,
    output: As = Output.HUMAN,
    api: Api = "",
    token_file: TokenFile = None,
    project: OfProject = "default",
) -> None:
    """List metrics, the last stored first: `fedbus metrics list --session mnist-1 --key loss`."""
    where = _where(api, token_file, project, client, more, session=session, key=key, sort=sort)
    columns = ("logged", "client", "session", "round", "step", "key", "value")
    _show(where.items(MetricView, "/v1/metrics", limit), columns, output)


@attributes.command("list")
def list_attributes(
    client: OfClient = "",
    key: OfKey = "",
    more: More = None,
    sort: Sort = "",
    limit: Limit = 500,
    output: As = Output.HUMAN,
    api: Api = "",
    token_file: TokenFile = None,
    project: OfProject = "default",
) -> None:
    """List what clients are like now."""
    where = _where(api, token_file, project, client, more, key=key, sort=sort)
    columns = ("client", "name", "key", "value", "logged")
    _show(where.items(AttributeView, "/v1/attributes", limit), columns, output)


@attributes.command("history")
def list_changes(
    client: OfClient = "",
    key: OfKey = "",
    more: More = None,
    sort: Sort = "",
    limit: Limit = 50,
    output: As = Output.HUMAN,
    api: Api = "",
    token_file: TokenFile = None,
    project: OfProject = "default",
) -> None:
    """List how attributes changed, the last stored first."""
    where = _where(api, token_file, project, client, more, key=key, sort=sort)
    columns = ("logged", "client", "key", "value")
    _show(where.items(AttributeChangeView, "/v1/attributes/history", limit), columns, output)


@attributes.command("match")
def match(
    conditions: Annotated[str, typer.Argument(help="As 'site=eu,gpu>=1'.")],
    ids: Annotated[
        list[str] | None, typer.Option("--client", help="Only these clients; repeatable.")
    ] = None,
    output: As = Output.HUMAN,
    api: Api = "",
    token_file: TokenFile = None,
    project: OfProject = "default",
) -> None:
    """Say which clients meet conditions, and why each other one does not."""
    filters = {"where": conditions, "id": ids or []}
    answer = _connect(api, token_file, project).get(SelectionView, "/v1/selection", filters)
    found = [Meant(client=one) for one in answer.chosen]
    found += [Meant(client=one, meant=False, why=why) for one, why in answer.left_out.items()]
    _show(found, ("client", "meant", "why"), output)


@telemetry.command("list")
def list_telemetry(
    client: OfClient = "",
    key: OfKey = "",
    more: More = None,
    sort: Sort = "",
    limit: Limit = 50,
    output: As = Output.HUMAN,
    api: Api = "",
    token_file: TokenFile = None,
    project: OfProject = "default",
) -> None:
    """List telemetry, the last stored first."""
    where = _where(api, token_file, project, client, more, key=key, sort=sort)
    columns = ("logged", "client", "key", "payload")
    _show(where.items(TelemetryView, "/v1/telemetry", limit), columns, output)


@results.command("list")
def list_results(
    session: OfSession = "",
    client: OfClient = "",
    key: OfKey = "",
    more: More = None,
    sort: Sort = "",
    limit: Limit = 50,
    output: As = Output.HUMAN,
    api: Api = "",
    token_file: TokenFile = None,
    project: OfProject = "default",
) -> None:
    """List inference results, the last stored first."""
    where = _where(api, token_file, project, client, more, session=session, key=key, sort=sort)
    columns = ("logged", "client", "session", "model", "key", "payload")
    _show(where.items(ResultView, "/v1/inference-results", limit), columns, output)


@status_events.command("list")
def list_status_events(
    session: OfSession = "",
    client: OfClient = "",
    level: OfLevel = "",
    more: More = None,
    sort: Sort = "",
    limit: Limit = 50,
    output: As = Output.HUMAN,
    api: Api = "",
    token_file: TokenFile = None,
    project: OfProject = "default",
) -> None:
    """List events, the last stored first."""
    where = _where(api, token_file, project, client, more, session=session, level=level, sort=sort)
    columns = ("logged", "client", "level", "session", "round", "text")
    _show(where.items(StatusEventView, "/v1/status-events", limit), columns, output)


@backlog.command("list")
def list_backlogs(
    client: OfClient = "",
    more: More = None,
    sort: Sort = "-total",
    limit: Limit = 500,
    output: As = Output.HUMAN,
    api: Api = "",
    token_file: TokenFile = None,
    project: OfProject = "default",
) -> None:
    """List what waits at each client, as it said last, and how good its link is."""
    where = _where(api, token_file, project, client, more, sort=sort)
    columns = ("client", "total", "bytes", "dropped", "oldest_age_s", "link", "reported")
    _show(where.items(BacklogView, "/v1/backlogs", limit), columns, output)
