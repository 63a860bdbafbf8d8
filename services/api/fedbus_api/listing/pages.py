"""A page of a list: filtered, sorted, cut after the place that the cursor names.

A cursor names the last row of the page before by its sort value and its key, so a page goes on right
after it whatever was written meanwhile: a row that did not change is told exactly once. It is bound to
filters and sort.
"""

import base64
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from fedbus_schemas.codec import digest
from fedbus_schemas.refusals import RefusalCode
from pydantic import BaseModel

from fedbus_api.listing.fields import Fields, Kind
from fedbus_api.listing.query import Operator, Query, Rank, Sort, parse, rank
from fedbus_api.problems import Problem

CURSOR_CHARS_MAX = 2_048
BOUND_CHARS = 16

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Asked:
    """What came in: the query's parameters, how many, and where to go on."""

    given: tuple[tuple[str, str], ...]
    limit: int
    cursor: str | None


@dataclass(frozen=True, slots=True)
class Cut(Generic[R]):
    """The rows of one page, where the next begins, and how many rows there are in all."""

    rows: Sequence[R]
    next: str | None
    count: int


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a row stands in the order. None: it has no value to sort by, and so comes last."""

    rank: Rank | None
    key: str

    def before(self, other: "_Place", *, descending: bool) -> bool:
        """Say whether this comes first."""
        if self.rank is None or other.rank is None:
            if (self.rank is None) != (other.rank is None):
                return other.rank is None
            return self.key > other.key if descending else self.key < other.key
        mine, its = (self.rank, self.key), (other.rank, other.key)
        return mine > its if descending else mine < its


class Listing(Generic[R]):
    """A kind of list. Rows have the attributes of `view`; `key` names a row, uniquely in the list."""

    def __init__(
        self,
        name: str,
        view: type[BaseModel],
        *,
        key: Callable[[R], str],
        sort: str,
        without: tuple[str, ...] = (),
    ) -> None:
        """`without` are fields that a list cannot look at: they are found for the rows of a page."""
        self.name = name
        self.fields = Fields(view, without)
        self._key = key
        self._sort = sort

    def query(self, asked: Asked) -> Query:
        """Check what is asked. Raises `Problem`."""
        return parse(self.fields, asked.given, self._sort)

    def count(self, rows: Iterable[R], asked: Asked) -> int:
        """Count the rows that meet the filters. Raises `Problem`."""
        query = self.query(asked)
        return sum(query.take(row) for row in rows)

    def page(self, rows: Iterable[R], asked: Asked, scope: str = "") -> Cut[R]:
        """Cut the page out of all rows. `scope` names whose rows these are. Raises `Problem`."""
        query = self.query(asked)
        bound = digest(f"{self.name} {scope} {query.text}".encode())[:BOUND_CHARS]
        after = _read(asked.cursor, bound) if asked.cursor is not None else None
        found = [row for row in rows if query.take(row)]
        placed = [(self._place(query.sort, row), row) for row in found]
        ordered = _ordered(placed, descending=query.sort.descending)
        start = 0
        if after is not None:
            start = sum(
                not after.before(place, descending=query.sort.descending) for place, _ in ordered
            )
        cut = ordered[start : start + asked.limit]
        more = start + asked.limit < len(ordered)
        following = _write(cut[-1][0], bound) if more else None
        return Cut([row for _, row in cut], following, len(found))

    def parameters(self) -> dict[str, object]:
        """Describe the filters for the OpenAPI document."""
        shown = []
        for field in self.fields.known.values():
            name = f"{field.name}.<key>" if field.open else field.name
            described = {
                "name": name,
                "in": "query",
                "required": False,
                "description": _described(field.kind, many=field.many),
                "schema": {"type": "array", "items": _SCHEMAS[field.kind]},
                "explode": True,
            }
            shown.append(described)
        description = (
            f"By which field, `-` before it for the other way; none = `{self._sort}`. "
            "Rows without a value come last."
        )
        by = {
            "name": "sort",
            "in": "query",
            "required": False,
            "description": description,
            "schema": {"type": "string"},
            "example": self._sort,
        }
        return {"parameters": [by, *shown]}

    def _place(self, sort: Sort, row: R) -> _Place:
        value = sort.field.value(row)
        return _Place(rank(value) if value is not None else None, self._key(row))


_SCHEMAS: dict[Kind, dict[str, object]] = {
    Kind.TEXT: {"type": "string"},
    Kind.NUMBER: {"type": "number"},
    Kind.TRUTH: {"type": "boolean"},
    Kind.TIME: {"type": "string", "format": "date-time"},
    Kind.SCALAR: {},
}


def _described(kind: Kind, *, many: bool) -> str:
    operators = ", ".join(f"`__{one}`" for one in Operator)
    whose = "Any of the values is one of these" if many else "The value is one of these"
    return f"{whose} ({kind}). Put an operator behind the name: {operators}."


def _ordered(placed: Sequence[tuple[_Place, R]], *, descending: bool) -> Sequence[tuple[_Place, R]]:
    ranked: list[tuple[Rank, str, _Place, R]] = []
    rest: list[tuple[str, _Place, R]] = []
    for place, row in placed:
        if place.rank is None:
            rest.append((place.key, place, row))
        else:
            ranked.append((place.rank, place.key, place, row))
    ranked.sort(key=lambda one: one[:2], reverse=descending)
    rest.sort(key=lambda one: one[0], reverse=descending)
    return [(one[2], one[3]) for one in ranked] + [(one[1], one[2]) for one in rest]


def _write(place: _Place, bound: str) -> str:
    content = json.dumps([bound, place.rank, place.key], separators=(",", ":"))
    return base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")


def _read(cursor: str, bound: str) -> _Place:
    try:
        content = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        made_for, ranked, key = json.loads(content)
        place = _Place((ranked[0], ranked[1], ranked[2]) if ranked else None, key)
        typed = isinstance(key, str) and (place.rank is None or _is_rank(place.rank))
    except (ValueError, TypeError, IndexError, KeyError) as error:
        raise _no_cursor("it is none of this api") from error
    if not typed:
        raise _no_cursor("it is none of this api")
    if made_for != bound:
        raise _no_cursor("it belongs to a list with other filters or another order")
    return place


def _is_rank(given: Rank) -> bool:
    number, value, text = given
    return isinstance(number, int) and isinstance(value, int | float) and isinstance(text, str)


def _no_cursor(why: str) -> Problem:
    return Problem(RefusalCode.CURSOR_INVALID, f"query.cursor: {why}")
