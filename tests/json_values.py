"""Values of a JSON Schema as a hypothesis strategy: all that our messages use of the language."""

import json
import re
from collections.abc import Callable
from datetime import UTC
from functools import cache
from typing import Any, TypeAlias

from fedbus_schemas.sessions import SessionSettings
from hypothesis import strategies as st
from pydantic import ValidationError

Schema: TypeAlias = dict[str, Any]
Values: TypeAlias = st.SearchStrategy[Any]
Known: TypeAlias = dict[str, Values]

ITEMS_MAX = 3
TEXT_MAX = 20


def values(schema: Schema, known: Known | None = None) -> Values:
    """Give a strategy for what a schema takes. `known` are those of its definitions, which no circle holds."""
    if known is None:
        known = {}
        for name in _innermost_first(schema.get("$defs", {})):
            found = values(schema["$defs"][name], known)
            known[name] = found.filter(_agrees) if name == "SessionSettings" else found
    if "$ref" in schema:
        return known[schema["$ref"].rpartition("/")[2]]
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            return st.one_of([values(each, known) for each in schema[choice]])
    if not schema:
        return _json()
    kinds: dict[str, Callable[[Schema, Known], Values]] = {
        "string": _text,
        "integer": _whole,
        "number": _number,
        "boolean": lambda *_: st.booleans(),
        "null": lambda *_: st.none(),
        "array": _list,
        "object": _object,
    }
    return kinds[schema["type"]](schema, known)


def _json() -> Values:
    """Give any JSON but null, which says that a field is not there."""
    numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    plain = st.booleans() | numbers | _text({}, {})
    inner = st.recursive(
        st.none() | plain,
        lambda one: st.lists(one, max_size=ITEMS_MAX) | st.dictionaries(_text({}, {}), one),
        max_leaves=4,
    )
    return (
        plain
        | st.lists(inner, max_size=ITEMS_MAX)
        | st.dictionaries(_text({}, {}), inner, max_size=2)
    )


def _innermost_first(definitions: Schema) -> list[str]:
    order: list[str] = []

    def visit(name: str) -> None:
        if name not in order:
            for inner in re.findall(r"#/\$defs/(\w+)", json.dumps(definitions[name])):
                visit(inner)
            order.append(name)

    for name in definitions:
        visit(name)
    return order


def _text(schema: Schema, _: Known) -> Values:
    if schema.get("format") == "date-time":
        return st.datetimes(timezones=st.just(UTC)).map(lambda one: one.isoformat())
    if "pattern" in schema:
        return _matching(schema["pattern"])
    most = min(schema.get("maxLength", TEXT_MAX), TEXT_MAX)
    least = schema.get("minLength", 0)
    return st.text(st.characters(exclude_categories=["Cs"]), min_size=least, max_size=most)


@cache
def _matching(pattern: str) -> Values:
    """Give a few texts that match: drawing each letter anew would take most of the time."""
    found: set[str] = set()
    letters = list(map(chr, range(33, 127)))
    shapes = ["c" + "abcdefg234567abc", "U" + "A" * 55, "SU" + "B" * 56, "s-1", "default", "n" * 47]
    shapes += [
        "0" * 64,
        "f" * 64,
        "0" * 32,
        "a" * 43,
        "_" * 43,
        "b" * 86,
        f"00-{'1' * 32}-{'2' * 16}-01",
    ]
    found |= {each for each in shapes + letters if re.fullmatch(pattern, each)}
    return st.sampled_from(sorted(found)) if found else st.from_regex(pattern, fullmatch=True)


def _whole(schema: Schema, _: Known) -> Values:
    least, most = schema.get("minimum", -(2**63)), schema.get("maximum", 2**63)
    return st.integers(least, most if "exclusiveMaximum" not in schema else 2**31)


def _number(schema: Schema, _: Known) -> Values:
    least = schema.get("minimum", schema.get("exclusiveMinimum"))
    return st.floats(
        least,
        schema.get("maximum"),
        exclude_min="exclusiveMinimum" in schema,
        allow_nan=False,
        allow_infinity=False,
    )


def _list(schema: Schema, known: Known) -> Values:
    least = schema.get("minItems", 0)
    most = min(schema.get("maxItems", ITEMS_MAX), least + ITEMS_MAX)
    return st.lists(values(schema["items"], known), min_size=least, max_size=most)


def _object(schema: Schema, known: Known) -> Values:
    if "properties" not in schema:
        least = schema.get("minProperties", 0)
        for pattern, each in schema.get("patternProperties", {}).items():
            names = _matching(pattern)
            return st.dictionaries(names, values(each, known), min_size=least, max_size=ITEMS_MAX)
        more = schema.get("additionalProperties")
        inner = values(more, known) if isinstance(more, dict) else st.integers() | st.text()
        return st.dictionaries(st.text(max_size=TEXT_MAX), inner, max_size=ITEMS_MAX)
    needed = schema.get("required", [])
    fields = {name: values(each, known) for name, each in schema["properties"].items()}
    return st.fixed_dictionaries(
        {name: each for name, each in fields.items() if name in needed},
        optional={name: each for name, each in fields.items() if name not in needed},
    )


def _agrees(settings: object) -> bool:
    """Whether settings pass what no schema can say: that their numbers go together."""
    try:
        SessionSettings.model_validate(settings)
    except ValidationError:
        return False
    return True
