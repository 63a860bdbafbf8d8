"""Choosing clients: by name or pseudonym, and by conditions on the attributes they have reported.

One query form serves sessions, commands and the api. `mismatch` says why a client is not chosen. People
write conditions as text, `site=eu,gpu>=1`; the grammar stands at `parse_conditions`.
"""

import json
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Self, TypeAlias

from pydantic import ConfigDict, Field, StringConstraints, ValidationError, model_validator

from fedbus_schemas.ids import AttributeKey, ClientId, Scalar
from fedbus_schemas.wire import Message

IDS_MAX = 2_000
"""Clients that one query may name."""
CONDITIONS_MAX = 16
CHOICES_MAX = 64
"""Values of one `in` condition."""
TEXT_MAX = 4_096
"""Characters of a query in its text form."""
SHOWN_MAX = 80
"""Characters of a wrong condition that are said again."""

Attributes: TypeAlias = Mapping[str, Scalar]
"""A client's current attributes."""


class Op(StrEnum):
    """How an attribute is compared. All but `exists` fail on an attribute that the client lacks."""

    EQ = "eq"
    NE = "ne"
    LT = "lt"
    LTE = "lte"
    GT = "gt"
    GTE = "gte"
    IN = "in"
    EXISTS = "exists"
    CONTAINS = "contains"


class Condition(Message):
    """One condition. `in` takes several values, `exists` true or false, `contains` a text.

    Values of different kinds (a number, a text, true or false) are never equal and have no order;
    whole numbers and fractions are one kind.
    """

    model_config = ConfigDict(extra="forbid")

    key: AttributeKey
    op: Op
    value: Scalar | Annotated[tuple[Scalar, ...], Field(min_length=1, max_length=CHOICES_MAX)] = (
        True
    )

    @model_validator(mode="after")
    def _value_fits(self) -> Self:
        value = self.value
        if isinstance(value, tuple) is not (self.op is Op.IN):
            wanted = "a list of values" if self.op is Op.IN else "one value, not a list"
            raise ValueError(f"{self.op} takes {wanted}")
        if self.op is Op.EXISTS and not isinstance(value, bool):
            raise ValueError("exists takes true or false")
        if self.op is Op.CONTAINS and not isinstance(value, str):
            raise ValueError("contains takes a text")
        if self.op in _ORDERS and isinstance(value, bool):
            raise ValueError(f"{self.op} takes a number or a text: true and false have no order")
        return self


class ClientQuery(Message):
    """Which clients are meant: those named (all, if none is) that meet every condition."""

    model_config = ConfigDict(extra="forbid")

    ids: Annotated[
        tuple[Annotated[str, StringConstraints(min_length=1, max_length=128)], ...],
        Field(max_length=IDS_MAX),
    ] = Field(default=(), description="Pseudonyms or names of clients; none = all.")
    where: Annotated[tuple[Condition, ...], Field(max_length=CONDITIONS_MAX)] = Field(
        default=(), description="Conditions on attributes; all must hold."
    )


class BadQuery(ValueError):
    """A query's text that cannot be read; says where and what would be right."""


def matches(query: ClientQuery, client: ClientId, name: str, attributes: Attributes) -> bool:
    """Whether the query means this client."""
    return mismatch(query, client, name, attributes) is None


def mismatch(query: ClientQuery, client: ClientId, name: str, attributes: Attributes) -> str | None:
    """Say in words why the query does not mean this client; None if it does."""
    if query.ids and client not in query.ids and name not in query.ids:
        return "not among the clients named"
    for condition in query.where:
        why = _fails(condition, attributes)
        if why is not None:
            return f"{show_condition(condition)}: {why}"
    return None


def parse_conditions(text: str) -> tuple[Condition, ...]:
    """Read conditions from text: a comma between any two, all must hold.

    | text | meaning |
    | --- | --- |
    | `site=eu` `site!=eu` | equal, not equal |
    | `gpu>=1` `gpu>1` `gpu<4` `gpu<=4` | order, of numbers or of texts |
    | `site=eu\\|us` | one of |
    | `name~lab` | contains the text |
    | `gpu` `!gpu` | the client has the attribute, or has not |

    A value is a number, `true`, `false` or a text. A text that looks like a number, begins with `=` or holds
    one of `,|"` stands in double quotes, written as in JSON. Raises `BadQuery`.
    """
    if len(text) > TEXT_MAX:
        raise BadQuery(f"a query of {len(text)} characters, at most {TEXT_MAX}")
    parts = _split(text, ",")
    if parts == [""]:
        return ()
    if len(parts) > CONDITIONS_MAX:
        raise BadQuery(f"{len(parts)} conditions, at most {CONDITIONS_MAX}")
    return tuple(_parse(part) for part in parts)


def show_conditions(conditions: tuple[Condition, ...]) -> str:
    """Write conditions as text that `parse_conditions` reads back."""
    return ",".join(map(show_condition, conditions))


def show_condition(condition: Condition) -> str:
    """Write one condition as text."""
    if condition.op is Op.EXISTS:
        return condition.key if condition.value else f"!{condition.key}"
    value = condition.value
    if isinstance(value, tuple):
        # A list of one has to stay a list: its value stands there twice.
        shown = "|".join(map(_show, value if len(value) > 1 else value * 2))
    else:
        shown = _show(value)
    return f"{condition.key}{_SIGNS[condition.op]}{shown}"


_ORDERS = (Op.LT, Op.LTE, Op.GT, Op.GTE)
_SIGNS = {
    Op.EQ: "=",
    Op.NE: "!=",
    Op.LT: "<",
    Op.LTE: "<=",
    Op.GT: ">",
    Op.GTE: ">=",
    Op.IN: "=",
    Op.CONTAINS: "~",
}
_OPS = {sign: op for op, sign in _SIGNS.items() if op is not Op.IN} | {"==": Op.EQ}
_CONDITION = re.compile(r"(!?)\s*([^\s=!<>~|\",]+)\s*(?:(==|!=|<=|>=|=|<|>|~)\s*(.*))?", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_WORDS: dict[str, bool] = {"true": True, "false": False}


def _fails(condition: Condition, attributes: Attributes) -> str | None:
    """Say why a condition does not hold, or None."""
    has = condition.key in attributes
    if condition.op is Op.EXISTS:
        if has is condition.value:
            return None
        return "the client has it" if has else "the client does not have it"
    if not has:
        return "the client does not have this attribute"
    actual = attributes[condition.key]
    if _holds(condition, actual):
        return None
    value = condition.value
    wanted = value if isinstance(value, tuple) else (value,)
    if all(_kind(one) != _kind(actual) for one in wanted):
        return f"it is {_show(actual)}, {_kind(actual)}, compared with {_kind(wanted[0])}"
    return f"it is {_show(actual)}"


def _holds(condition: Condition, actual: Scalar) -> bool:
    wanted = condition.value
    if isinstance(wanted, tuple):
        return any(_equal(actual, one) for one in wanted)
    if condition.op is Op.EQ:
        return _equal(actual, wanted)
    if condition.op is Op.NE:
        return not _equal(actual, wanted)
    if isinstance(actual, str) and isinstance(wanted, str):
        return (
            wanted in actual
            if condition.op is Op.CONTAINS
            else _ordered(condition.op, (actual > wanted) - (actual < wanted))
        )
    if isinstance(actual, bool | str) or isinstance(wanted, bool | str):
        return False
    return _ordered(condition.op, (actual > wanted) - (actual < wanted))


def _ordered(op: Op, sign: int) -> bool:
    """Whether an order holds, given -1, 0 or 1 for less, equal and greater."""
    return (
        (op is Op.LT and sign < 0)
        or (op is Op.LTE and sign <= 0)
        or (op is Op.GT and sign > 0)
        or (op is Op.GTE and sign >= 0)
    )


def _equal(one: Scalar, other: Scalar) -> bool:
    return _kind(one) == _kind(other) and one == other


def _kind(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true or false"
    return "a text" if isinstance(value, str) else "a number"


def _parse(part: str) -> Condition:
    found = _CONDITION.fullmatch(part.strip())
    if found is None:
        raise BadQuery(
            f"{_short(part)} is no condition; write one as site=eu, gpu>=1, site=eu|us, name~lab, "
            "gpu or !gpu, with a comma between two"
        )
    absent, key, sign, rest = found.groups()
    if sign is None:
        return _condition(part, key, Op.EXISTS, not absent)
    if absent:
        raise BadQuery(f"{_short(part)}: to negate a comparison write {key}!=VALUE")
    values = tuple(_value(part, one) for one in _split(rest, "|"))
    if len(values) == 1:
        return _condition(part, key, _OPS[sign], values[0])
    if _OPS[sign] is not Op.EQ:
        raise BadQuery(f"{_short(part)}: several values go with = only")
    return _condition(part, key, Op.IN, values)


def _condition(part: str, key: str, op: Op, value: Scalar | tuple[Scalar, ...]) -> Condition:
    try:
        return Condition(key=key, op=op, value=value)
    except ValidationError as error:
        raise BadQuery(f"{_short(part)}: {_what_is_wrong(error)}") from error


def _what_is_wrong(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    if not first["loc"]:
        return first["msg"].removeprefix("Value error, ")
    if first["loc"][0] == "key":
        return "a name begins with a letter and has at most 64 letters, digits and _ . / : -"
    return (
        "a value is a finite number, true, false or a text of at most 1024 characters, "
        f"and there are at most {CHOICES_MAX}"
    )


def _short(part: str) -> str:
    part = part.strip()
    return repr(part if len(part) <= SHOWN_MAX else part[:SHOWN_MAX] + "...")


def _value(part: str, text: str) -> Scalar:
    text = text.strip()
    if text.startswith('"'):
        try:
            read = json.loads(text)
        except ValueError as error:
            raise BadQuery(f"{_short(part)}: {text} is not a text in double quotes") from error
        return str(read)
    if not text or '"' in text:
        raise BadQuery(f'{_short(part)}: write a value after the sign; an empty text is ""')
    if text in _WORDS:
        return _WORDS[text]
    if _NUMBER.fullmatch(text):
        return float(text) if re.search(r"[.eE]", text) else int(text)
    return text


def _show(value: Scalar) -> str:
    if not isinstance(value, str):
        return json.dumps(value)
    plain = value and value == value.strip() and not re.search(r'^=|[,|"]', value)
    looks_otherwise = value in _WORDS or _NUMBER.fullmatch(value)
    return value if plain and not looks_otherwise else json.dumps(value)


def _split(text: str, at: str) -> list[str]:
    """Split outside double quotes."""
    parts, quoted, escaped, begin = [], False, False, 0
    for index, character in enumerate(text):
        if escaped:
            escaped = False
        elif quoted and character == "\\":
            escaped = True
        elif character == '"':
            quoted = not quoted
        elif character == at and not quoted:
            parts.append(text[begin:index])
            begin = index + 1
    if quoted:
        raise BadQuery(f"{text[begin:].strip()!r}: a double quote is not closed")
    return [*parts, text[begin:]]
