"""A page of a list: filtered, sorted, cut after the place that the cursor names.

A cursor names the last row of the page before by its sort value and its key, so a page goes on right
after it whatever was written meanwhile: a row that did not change is told exactly once. It is bound to
filters and sort.
"""

import base64
import heapq
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Generic, TypeVar

from fedbus_schemas.codec import digest
from fedbus_schemas.refusals import RefusalCode
from pydantic import BaseModel

from fedbus_api.listing.fields import Fields, Kind
from fedbus_api.listing.query import Operator, Query, Rank, parse, rank
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


Place = tuple[Rank | None, str]
"""Where a row stands: by what it sorts (None: it has no value, and so comes last), and its key."""


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
        ranked: list[tuple[Rank, str, R]] = []
        rest: list[tuple[str, R]] = []
        for row in rows:
            if query.take(row):
                value = query.sort.field.value(row)
                if value is None:
                    rest.append((self._key(row), row))
                else:
                    ranked.append((rank(value), self._key(row), row))
        count = len(ranked) + len(rest)
        chosen = _following(ranked, rest, after, asked.limit + 1, down=query.sort.descending)
        cut = chosen[: asked.limit]
        more = len(chosen) > asked.limit
        following = _write(*cut[-1][0], bound) if more else None
        return Cut([row for _, row in cut], following, count)

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


def _following(
    ranked: list[tuple[Rank, str, R]],
    rest: list[tuple[str, R]],
    after: Place | None,
    limit: int,
    *,
    down: bool,
) -> list[tuple[Place, R]]:
    """Give the first rows after a place. Only these are put in order: most lists are long, pages short."""
    if after is not None:
        place, key = after
        if place is None:
            ranked = []
            rest = [one for one in rest if (one[0] < key if down else one[0] > key)]
        else:
            mark = (place, key)
            ranked = [one for one in ranked if (one[:2] < mark if down else one[:2] > mark)]
    first = heapq.nlargest if down else heapq.nsmallest
    found: list[tuple[Place, R]] = [
        ((one[0], one[1]), one[2]) for one in first(limit, ranked, key=itemgetter(0, 1))
    ]
    left = limit - len(found)
    if left > 0:
        found += [((None, one[0]), one[1]) for one in first(left, rest, key=itemgetter(0))]
    return found


def _write(ranked: Rank | None, key: str, bound: str) -> str:
    content = json.dumps([bound, ranked, key], separators=(",", ":"))
    return base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")


def _read(cursor: str, bound: str) -> Place:
    try:
        content = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        made_for, ranked, key = json.loads(content)
        place = (ranked[0], ranked[1], ranked[2]) if ranked else None
    except (ValueError, TypeError, IndexError, KeyError) as error:
        raise _no_cursor("it is none of this api") from error
    if not isinstance(key, str) or not (place is None or _is_rank(place)):
        raise _no_cursor("it is none of this api")
    if made_for != bound:
        raise _no_cursor("it belongs to a list with other filters or another order")
    return place, key


def _is_rank(given: Rank) -> bool:
    number, value, text = given
    return isinstance(number, int) and isinstance(value, int | float) and isinstance(text, str)


def _no_cursor(why: str) -> Problem:
    return Problem(RefusalCode.CURSOR_INVALID, f"query.cursor: {why}")
