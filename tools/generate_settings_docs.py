"""Writes `docs/settings.md` from the settings themselves: `python tools/generate_settings_docs.py`.

The tables come from the services' settings classes, `SessionSettings` and the client's `Options`, so that
what the page says is what the code reads.
"""

import ast
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TypeAlias, get_type_hints

from fedbus.options import Options
from fedbus_api.settings import ApiSettings
from fedbus_combiner.settings import CombinerSettings
from fedbus_controller.settings import ControllerSettings
from fedbus_runtime.settings import NESTED, PREFIX, ServiceSettings
from fedbus_schemas.sessions import NumbersSettings, SessionSettings
from pydantic import BaseModel

PAGE = Path(__file__).parent.parent / "docs" / "settings.md"

Schema: TypeAlias = Mapping[str, object]
Row: TypeAlias = tuple[str, str, str, str]
"""Name, type, default, meaning."""

HEAD = """# Settings

This page is written by `tools/generate_settings_docs.py` from the settings classes (`make docs`); a test
fails when the two differ. Do not edit it by hand.

A service reads its settings from the environment, once, at its start. A variable that begins with `FEDBUS_`
and is no setting of that service is refused (exit code 78) with the nearest name, so a misspelt name cannot
leave a default in force. Secrets are never values: a setting names the file that holds one.
`python -m fedbus_controller --print-settings` (also `fedbus_combiner`, `fedbus_api`) prints what is in force
and exits. Durations are ISO 8601 (`PT10S`).
"""

SERVICES = """## Every service

Controller, combiner and api read these.
"""
SESSIONS = """## A session

What `POST /v1/sessions` takes beside `model` and `session`. Fixed in the session's first event; only the
number of rounds can be raised later. An unknown field is refused.
"""
NUMBERS = """### `numbers`: the exact sums

See [decision 0002](decisions/0002-exact-integer-sums.md).
"""
CLIENT = """## A client

The fields of `fedbus.Options`; `fedbus.run` takes the first three by name. See [the client](client.md).
"""
LOCAL = """## The local stack

`fedbus up` gives every process of its stack the settings above; the caller's own `FEDBUS_` variables do not
reach them, except `FEDBUS_LOG__LEVEL`. What the commands themselves read:

| variable | meaning |
| --- | --- |
| `FEDBUS_DIR` | The data directory, instead of `--dir` (default `.fedbus`). |
| `FEDBUS_API_URL` | The api's address, instead of `--api`; unset = what the stack in `FEDBUS_DIR` wrote. |
| `FEDBUS_API_TOKEN_FILE` | The file with the api's token, instead of `--token-file`. |
"""


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """Give the whole page."""
    common = set(ServiceSettings.model_fields)
    parts = [HEAD, SERVICES, table(service_rows(ServiceSettings, set()), "variable")]
    for name, model in (
        ("controller", ControllerSettings),
        ("combiner", CombinerSettings),
        ("api", ApiSettings),
    ):
        parts += [f"## The {name}\n", table(service_rows(model, common), "variable")]
    parts += [SESSIONS, table(model_rows(SessionSettings, {"numbers"}), "field")]
    parts += [NUMBERS, table(numbers_rows(), "field")]
    parts += [CLIENT, table(option_rows(), "option"), LOCAL]
    return "\n".join(parts)


def table(rows: Iterator[Row], first: str) -> str:
    """Write rows as a Markdown table."""
    lines = [f"| {first} | type | default | meaning |", "| --- | --- | --- | --- |"]
    lines += [f"| `{name}` | {kind} | {default} | {text} |" for name, kind, default, text in rows]
    return "\n".join(lines) + "\n"


def service_rows(model: type[ServiceSettings], left_out: set[str]) -> Iterator[Row]:
    """Give a service's variables, without those that are told elsewhere."""
    schema = model.model_json_schema()
    for name, field in properties(schema):
        if name not in left_out:
            yield from nested_rows(f"{PREFIX}{name.upper()}", field, schema, needed(schema, name))


def nested_rows(name: str, field: Schema, root: Schema, required: bool) -> Iterator[Row]:
    """Give the rows of one field, which may be a section of its own."""
    section = resolved(field, root)
    if "properties" in section:
        for inner, part in properties(section):
            path = f"{name}{NESTED}{inner.upper()}"
            yield from nested_rows(path, part, root, needed(section, inner))
        return
    default = "**needed**" if required else shown(field.get("default"))
    yield name, kind_of(field, root), default, str(field.get("description", ""))


def model_rows(model: type[BaseModel], left_out: set[str]) -> Iterator[Row]:
    """Give the fields of a message."""
    schema = model.model_json_schema(by_alias=True)
    for name, field in properties(schema):
        if name not in left_out:
            default = shown(field.get("default"))
            text = str(field.get("description", "")) or _NAMELESS[name]
            yield name, kind_of(field, schema), default, text


_NAMELESS = {
    "name": "A name for people.",
    "aggregator": "The aggregation rule.",
}
"""Meanings of fields that have no description in the code because their names say it."""

_NUMBERS = {
    "weight_bits": "The largest weight (number of examples) is 2 to this power.",
    "cohort_bits": "The largest cohort is 2 to this power.",
    "growth_bits": "In one round a value may reach 2 to this power times its tensor's largest.",
    "wide": "Names of tensors that are summed in two limbs: for values far apart in size.",
}


def numbers_rows() -> Iterator[Row]:
    """Give the parameters of the exact sums."""
    schema = NumbersSettings.model_json_schema()
    for name, field in properties(schema):
        yield name, kind_of(field, schema), shown(field.get("default")), _NUMBERS[name]


def option_rows() -> Iterator[Row]:
    """Give the client's options, with the sentence that stands below each."""
    texts = dict(attribute_texts(inspect.getsource(Options)))
    hints = get_type_hints(Options)
    for each in fields(Options):
        hint = hints[each.name]
        kind = hint.__name__ if isinstance(hint, type) else str(hint)
        kind = kind.replace("pathlib.Path", "Path").replace(" | ", " or ")
        kind = kind.replace("fedbus_schemas.credentials.", "")
        default = "**needed**" if each.default is MISSING else shown(each.default)
        yield each.name, kind, default, texts[each.name]


def attribute_texts(source: str) -> Iterator[tuple[str, str]]:
    """Give each attribute of a class with the string that follows it."""
    body = ast.parse(source).body[0]
    assert isinstance(body, ast.ClassDef)
    for field, text in zip(body.body, body.body[1:], strict=False):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            yield field.target.id, " ".join(str(text.value.value).split())


def properties(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """Give the properties of an object's schema."""
    found = schema["properties"]
    assert isinstance(found, Mapping)
    yield from found.items()


def resolved(field: Schema, root: Schema) -> Schema:
    """Follow a reference."""
    place = field.get("$ref")
    if not isinstance(place, str):
        return field
    found: object = root
    for part in place.removeprefix("#/").split("/"):
        assert isinstance(found, Mapping)
        found = found[part]
    assert isinstance(found, Mapping)
    return found


def needed(schema: Schema, name: str) -> bool:
    """Say whether a field has no default."""
    required = schema.get("required", ())
    assert isinstance(required, list | tuple)
    return name in required


def kind_of(field: Schema, root: Schema) -> str:
    """Say in a few words what a field takes."""
    field = resolved(field, root)
    if "enum" in field or "const" in field:
        values = field.get("enum", [field.get("const")])
        assert isinstance(values, list)
        return ", ".join(f"`{value}`" for value in values)
    choices = field.get("anyOf")
    if isinstance(choices, list):
        return next(kind_of(one, root) for one in choices if one.get("type") != "null")
    kind = str(field.get("type", "value"))
    if field.get("format") in {"path", "duration"}:
        kind = {"path": "file", "duration": "duration"}[str(field["format"])]
    elif kind == "object":
        kind = "mapping"
    elif kind == "array":
        kind = "list"
    return " ".join(filter(None, (kind.replace("string", "text"), bounds(field))))


def bounds(field: Schema) -> str:
    """Say between what a number lies."""
    low, high = field.get("minimum"), field.get("maximum")
    above, below = field.get("exclusiveMinimum"), field.get("exclusiveMaximum")
    if isinstance(below, int):
        return f"from {low}, below 2^{below.bit_length() - 1}"
    if above is not None:
        return f"above {above:,}, to {high:,.0f}" if high is not None else f"above {above:,}"
    if low is not None and high is not None:
        return f"{low:,.0f} to {high:,.0f}"
    return f"from {low:,.0f}" if low is not None else ""


def shown(value: object) -> str:
    """Write a default."""
    if value is None or value == "":
        return "unset"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int) and value >= 100_000:
        return f"`{value:,}`"
    if isinstance(value, Mapping | list | tuple) and not value:
        return "empty"
    return f"`{value}`"


if __name__ == "__main__":
    main()
