"""What a list was asked: filters, sort, place. Strict: what is not known is refused, never ignored.

`field=value`, repeated for "any of these"; `field__operator=value` with the operators below; `sort=field`
or `sort=-field`; `limit` and `cursor`.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from fedbus_schemas.refusals import RefusalCode

from fedbus_api.listing.fields import Field, Fields, Kind, Value
from fedbus_api.problems import Problem

FILTERS_MAX = 32
"""Filters of one list."""
VALUES_MAX = 1_000
"""Values of one filter."""
RESERVED = frozenset({"project", "limit", "cursor", "sort"})


class Operator(StrEnum):
    """How a filter compares. A field without a value passes `ne` and `null` only."""

    EQ = "eq"
    NE = "ne"
    GT = "gt"
    GTE = "gte"
    LT = "lt"
    LTE = "lte"
    IN = "in"
    CONTAINS = "contains"
    NULL = "null"


@dataclass(frozen=True, slots=True)
class Filter:
    """One condition on a row."""

    field: Field
    operator: Operator
    values: tuple[Value, ...]

    def takes(self, row: object) -> bool:
        """Say whether a row meets it."""
        have = self.field.values(row)
        match self.operator:
            case Operator.EQ | Operator.IN:
                return any(one in self.values for one in have if one is not None)
            case Operator.NE:
                return not any(one in self.values for one in have if one is not None)
            case Operator.CONTAINS:
                wanted = [str(one) for one in self.values]
                return any(text in str(one) for one in have if one is not None for text in wanted)
            case Operator.NULL:
                return all(one is None for one in have) == self.values[0]
            case _:
                bound = self.values[0]
                return any(_compare(self.operator, one, bound) for one in have if one is not None)


@dataclass(frozen=True, slots=True)
class Sort:
    """By which field, and which way. Rows without a value come last either way."""

    field: Field
    descending: bool

    @property
    def text(self) -> str:
        """How it is asked for."""
        return f"-{self.field.name}" if self.descending else self.field.name


@dataclass(frozen=True, slots=True)
class Query:
    """A list as asked for, checked."""

    filters: tuple[Filter, ...]
    sort: Sort

    def take(self, row: object) -> bool:
        """Say whether a row meets all filters."""
        return all(one.takes(row) for one in self.filters)

    @property
    def text(self) -> str:
        """Name filters and sort, for a cursor to be bound to."""
        named = sorted(f"{one.field.name}__{one.operator}={one.values!r}" for one in self.filters)
        return "&".join([*named, f"sort={self.sort.text}"])


def parse(fields: Fields, given: Iterable[tuple[str, str]], sort: str) -> Query:
    """Check what was asked. `sort` is taken when nothing else is asked for. Raises `Problem`."""
    wanted: dict[tuple[str, Operator], list[str]] = {}
    for name, text in given:
        if name == "sort":
            sort = text
        elif name not in RESERVED:
            field, operator = _split(name)
            wanted.setdefault((field, operator), []).append(text)
    if len(wanted) > FILTERS_MAX:
        raise Problem(RefusalCode.INVALID, f"query: {FILTERS_MAX} filters at most")
    filters = [_filter(fields, name, operator, texts) for (name, operator), texts in wanted.items()]
    return Query(tuple(filters), _sort(fields, sort))


def _split(name: str) -> tuple[str, Operator]:
    field, mark, word = name.rpartition("__")
    if not mark:
        return name, Operator.EQ
    if word not in set(Operator):
        detail = f"query.{name[:64]}: no such operator; there are {', '.join(Operator)}"
        raise Problem(RefusalCode.OPERATOR_UNKNOWN, detail)
    return field, Operator(word)


def _filter(fields: Fields, name: str, operator: Operator, texts: Sequence[str]) -> Filter:
    field = fields.find(name)
    if operator is Operator.IN:
        texts = [part for text in texts for part in text.split(",")]
    if len(texts) > VALUES_MAX:
        raise Problem(RefusalCode.INVALID, f"query.{name}: {VALUES_MAX} values at most")
    if operator is Operator.NULL:
        values: list[Value] = [_truth(name, text) for text in texts]
    elif operator is Operator.CONTAINS:
        values = list(texts)
    else:
        values = [inner for text in texts for inner in _values(field, text)]
    if operator not in _SEVERAL and len(texts) > 1:
        raise Problem(RefusalCode.INVALID, f"query.{name}__{operator}: one value only")
    return Filter(field, operator, tuple(values))


_SEVERAL = (Operator.EQ, Operator.NE, Operator.IN, Operator.CONTAINS)


def _sort(fields: Fields, text: str) -> Sort:
    name = text.removeprefix("-")
    field = fields.find(name)
    if field.many:
        raise Problem(RefusalCode.INVALID, f"query.sort: {name} has many values")
    return Sort(field, text.startswith("-"))


def _values(field: Field, text: str) -> list[Value]:
    """Read a value as the field's kind; an entry of a mapping may be text or a number."""
    match field.kind:
        case Kind.TEXT:
            return [text]
        case Kind.TRUTH:
            return [_truth(field.name, text)]
        case Kind.NUMBER:
            return [_number(field.name, text)]
        case Kind.TIME:
            return [_time(field.name, text)]
        case Kind.SCALAR:
            if text in ("true", "false"):
                return [text == "true"]
            try:
                return [_number(field.name, text)]
            except Problem:
                return [text]


def _truth(name: str, text: str) -> bool:
    if text not in ("true", "false"):
        raise Problem(RefusalCode.INVALID, f"query.{name}: true or false")
    return text == "true"


def _number(name: str, text: str) -> float:
    try:
        number = int(text)
    except ValueError:
        pass
    else:
        return number
    try:
        broken = float(text)
    except ValueError:
        broken = math.nan
    if not math.isfinite(broken):
        raise Problem(RefusalCode.INVALID, f"query.{name}: a number")
    return broken


def _time(name: str, text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text.replace(" ", "+"))  # an unescaped "+" arrives as a blank
    except ValueError as error:
        detail = f"query.{name}: a time as 2026-01-31T12:00:00Z"
        raise Problem(RefusalCode.INVALID, detail) from error
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def _compare(operator: Operator, have: Value, bound: Value) -> bool:
    left, right = rank(have), rank(bound)
    if left[0] != right[0]:
        return False
    match operator:
        case Operator.GT:
            return left > right
        case Operator.GTE:
            return left >= right
        case Operator.LT:
            return left < right
        case _:
            return left <= right


Rank = tuple[int, float, str]


def rank(value: Value) -> Rank:
    """Give what values are ordered by: numbers, then times, then text."""
    match value:
        case datetime():
            return 1, value.timestamp(), ""
        case str():
            return 2, 0.0, value
        case None:
            raise AssertionError("what has no value has no rank")
        case _:
            return 0, value, ""
