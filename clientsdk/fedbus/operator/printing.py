"""How answers are written: tables for people, JSON or YAML for programs."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from typing import TypeAlias

from fedbus_schemas.wire import Message
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedbus.errors import BadOption

DIGEST_CHARS = 64
SHOWN_CHARS = 12
"""So much of a SHA-256 stands in a table on a terminal; commands take so much of it, too."""

Fields: TypeAlias = dict[str, object]


class Output(StrEnum):
    """For whom a command prints."""

    HUMAN = "human"
    JSON = "json"
    YAML = "yaml"


def fields(view: Message) -> Fields:
    """Give a view as the api wrote it."""
    return view.model_dump(mode="json", by_alias=True)


def one(view: Message, output: Output) -> None:
    """Write one thing."""
    if output is not Output.HUMAN:
        _data(fields(view), output)
        return
    console = Console(highlight=False, soft_wrap=True)
    rows = list(_flat(fields(view)))
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        console.print(Text(f"{name:<{width}}  ", style="dim").append(cell(value), style="none"))


def rows(views: Iterable[Message], columns: Sequence[str], output: Output) -> None:
    """Write a list: a table on a terminal, else columns with tabs between; or an array."""
    if output is not Output.HUMAN:
        _data([fields(view) for view in views], output)
        return
    cells = ([_at(fields(view), column) for column in columns] for view in views)
    if sys.stdout.isatty():
        _table(cells, columns)
        return
    print("\t".join(columns))
    for values in cells:
        print("\t".join(cell(value) for value in values))


def line(view: Message, output: Output) -> None:
    """Write one of a stream: a JSON object a line, or a YAML document."""
    if output is Output.YAML:
        print("---")
        _data(fields(view), output)
    else:
        print(json.dumps(fields(view), ensure_ascii=False), flush=True)


def cell(value: object) -> str:
    """Write a value in one line."""
    if value is None or value in ([], {}):
        return "-"
    if isinstance(value, str):
        return value.replace("\t", " ").replace("\n", " ")
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return " ".join(f"{name}={cell(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return ", ".join(cell(inner) for inner in value)
    return json.dumps(value)


def _data(value: object, output: Output) -> None:
    if output is Output.JSON:
        print(json.dumps(value, ensure_ascii=False, indent=2))
        return
    try:
        import yaml  # only who wants YAML loads it
    except ModuleNotFoundError:
        raise BadOption("-o yaml needs PyYAML; say: pip install 'fedbus[cli]'") from None
    print(yaml.safe_dump(value, sort_keys=False, allow_unicode=True), end="")


def _table(rows: Iterable[Sequence[object]], columns: Sequence[str]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.upper().replace("_", " "), overflow="fold")
    for values in rows:
        table.add_row(*(Text(_short(value)) for value in values))
    Console(highlight=False).print(table)


def _short(value: object) -> str:
    text = cell(value)
    if isinstance(value, str) and len(text) == DIGEST_CHARS and text.isalnum():
        return text[:SHOWN_CHARS]
    stamp = isinstance(value, str) and len(text) > 19 and text[10:11] == "T" and text[4] == "-"
    return text[:19].replace("T", " ") if stamp else text


def _at(found: object, path: str) -> object:
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _flat(found: Fields, before: str = "") -> Iterator[tuple[str, object]]:
    for name, value in found.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{before}{name}.")
        elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
            for place, inner in enumerate(value):
                yield f"{before}{name}[{place}]", inner
        else:
            yield before + name, value
