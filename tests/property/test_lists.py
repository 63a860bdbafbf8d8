"""Lists against a plain Python model: filters, order, and pages while others write."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum

import pytest
from fedbus_api.listing.pages import Asked, Listing
from fedbus_api.problems import Problem
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel, Field

START = datetime(2026, 1, 1, tzinfo=UTC)


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Part(BaseModel):
    code: str


class Inner(BaseModel):
    name: str = ""
    on: bool = Field(default=False, alias="switch")


class Thing(BaseModel):
    key: str
    colour: Colour
    size: int | None = None
    at: AwareDatetime
    inner: Inner | None = None
    tags: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()
    metrics: dict[str, float] = {}
    extra: dict[str, bool | int | float | str] = {}


THINGS: Listing[Thing] = Listing("things", Thing, key=lambda one: one.key, sort="-at")
WORDS = st.sampled_from(["", "a", "b", "ab", "Ω", "null", "1"])
NUMBERS = st.integers(-3, 3)

things = st.lists(
    st.builds(
        Thing,
        key=st.text("abcdef", min_size=3, max_size=6),
        colour=st.sampled_from(Colour),
        size=st.none() | NUMBERS,
        at=NUMBERS.map(lambda n: START + timedelta(hours=n)),
        inner=st.none() | st.builds(lambda n, s: Inner(name=n, switch=s), WORDS, st.booleans()),
        tags=st.lists(WORDS, max_size=2).map(tuple),
        parts=st.lists(st.builds(Part, code=WORDS), max_size=2).map(tuple),
        metrics=st.dictionaries(st.sampled_from(["loss", "val.acc"]), st.floats(-2, 2)),
        extra=st.dictionaries(st.just("x"), st.booleans() | NUMBERS | WORDS),
    ),
    max_size=30,
    unique_by=lambda one: one.key,
)

# How a plain reader of the JSON would find a field's values.
PLAIN = {
    "key": lambda one: [one.key],
    "colour": lambda one: [one.colour.value],
    "size": lambda one: [one.size],
    "at": lambda one: [one.at],
    "inner.name": lambda one: [one.inner.name if one.inner else None],
    "inner.switch": lambda one: [one.inner.on if one.inner else None],
    "tags": lambda one: list(one.tags),
    "parts.code": lambda one: [part.code for part in one.parts],
    "metrics.loss": lambda one: [one.metrics.get("loss")],
    "metrics.val.acc": lambda one: [one.metrics.get("val.acc")],
}
SINGLE = [name for name in PLAIN if name not in ("tags", "parts.code")]


def text_of(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, datetime) else str(value)


def sample(name: str, draw: st.DrawFn) -> object:
    """Draw a value that the field could have."""
    if name == "at":
        return START + timedelta(hours=draw(NUMBERS))
    if name in ("size", "metrics.loss", "metrics.val.acc"):
        return draw(NUMBERS)
    return draw(st.booleans() if name == "inner.switch" else WORDS | st.sampled_from(["red"]))


def holds(name: str, operator: str, values: list[object], one: Thing) -> bool:
    have = [value for value in PLAIN[name](one) if value is not None]
    match operator:
        case "" | "eq" | "in":
            return any(value in values for value in have)
        case "ne":
            return not any(value in values for value in have)
        case "null":
            return (not have) is values[0]
        case "contains":
            return any(text_of(want) in str(value) for value in have for want in values)
        case _:
            bound = values[0]
            tests = {
                "gt": lambda v: v > bound,
                "gte": lambda v: v >= bound,
                "lt": lambda v: v < bound,
                "lte": lambda v: v <= bound,
            }
            return any(tests[operator](value) for value in have)


@st.composite
def conditions(draw: st.DrawFn) -> tuple[str, str, list[object]]:
    name = draw(st.sampled_from(sorted(PLAIN)))
    operators = ["", "eq", "ne", "in", "gt", "gte", "lt", "lte", "null"]
    if name in ("key", "colour", "inner.name", "tags", "parts.code"):
        operators.append("contains")
    operator = draw(st.sampled_from(operators))
    if operator == "null":
        return name, operator, [draw(st.booleans())]
    many = 3 if operator in ("", "eq", "ne", "in", "contains") else 1
    return name, operator, [sample(name, draw) for _ in range(draw(st.integers(1, many)))]


def asked(
    wanted: list[tuple[str, str, list[object]]], *, sort: str = "", limit: int = 100
) -> Asked:
    pairs = []
    for name, operator, values in wanted:
        asked_as = f"{name}__{operator}" if operator else name
        pairs += [(asked_as, text_of(value)) for value in values]
    return Asked(tuple(pairs + ([("sort", sort)] if sort else [])), limit, None)


@settings(max_examples=300, deadline=None)
@given(rows=things, wanted=st.lists(conditions(), max_size=3, unique_by=lambda one: one[:2]))
def test_filters_take_what_a_plain_reader_would_take(rows, wanted) -> None:
    merged = [(name, operator or "eq", values) for name, operator, values in wanted]
    names = [one[:2] for one in merged]
    if len(set(names)) < len(names):
        return  # "" and "eq" of one field are one filter
    expected = {
        one.key
        for one in rows
        if all(holds(name, how, values, one) for name, how, values in wanted)
    }
    cut = THINGS.page(rows, asked(wanted))
    assert {one.key for one in cut.rows} == expected
    assert cut.count == len(expected) == THINGS.count(rows, asked(wanted))


@settings(max_examples=200, deadline=None)
@given(rows=things, name=st.sampled_from(SINGLE), down=st.booleans(), limit=st.integers(1, 7))
def test_pages_give_every_row_once_in_order(rows, name, down, limit) -> None:
    value = lambda one: PLAIN[name](one)[0]  # noqa: E731
    known = sorted(
        (one for one in rows if value(one) is not None),
        key=lambda one: (value(one), one.key),
        reverse=down,
    )
    rest = sorted(
        (one for one in rows if value(one) is None), key=lambda one: one.key, reverse=down
    )
    sort = f"-{name}" if down else name
    assert walk(rows, sort, limit) == [one.key for one in known + rest]


def walk(rows: list[Thing], sort: str, limit: int, between=lambda: None) -> list[str]:
    seen: list[str] = []
    ask = asked([], sort=sort, limit=limit)
    while True:
        cut = THINGS.page(rows, ask)
        seen += [one.key for one in cut.rows]
        if cut.next is None:
            return seen
        ask = Asked(ask.given, limit, cut.next)
        between()


@settings(max_examples=200, deadline=None)
@given(rows=things, data=st.data(), name=st.sampled_from(SINGLE), down=st.booleans())
def test_pages_are_stable_while_rows_come_change_and_go(rows, data, name, down) -> None:
    """Who is there all the time and does not change is told exactly once, whatever happens to others."""
    staying = data.draw(st.sets(st.sampled_from([one.key for one in rows]))) if rows else set()
    pool = data.draw(things)

    def write() -> None:
        chance = data.draw(st.integers(0, 2))
        movable = [one for one in rows if one.key not in staying]
        if chance == 0 and movable:
            rows.remove(movable[0])
        elif pool and pool[-1].key not in {one.key for one in rows}:
            rows.append(pool.pop())
        elif movable:
            rows[rows.index(movable[0])] = movable[0].model_copy(update={"size": chance})

    seen = walk(rows, f"-{name}" if down else name, 2, write)
    assert [seen.count(key) for key in sorted(staying)] == [1] * len(staying)


def test_an_entry_of_a_mapping_is_text_or_a_number() -> None:
    rows = [
        Thing(key=f"k{place}", colour=Colour.RED, at=START, extra={"x": value})
        for place, value in enumerate([1, "one", True, 2.5])
    ]
    for text, keys in (
        ("1", {"k0", "k2"}),
        ("one", {"k1"}),
        ("true", {"k0", "k2"}),
        ("2.5", {"k3"}),
    ):
        ask = Asked((("extra.x", text),), 10, None)
        assert {one.key for one in THINGS.page(rows, ask).rows} == keys
    ask = Asked((("extra.x__gt", "1"), ("sort", "extra.x")), 10, None)
    assert [one.key for one in THINGS.page(rows, ask).rows] == ["k3"]


@pytest.mark.parametrize("change", ["filter", "sort", "scope", "list", "bytes"])
def test_a_cursor_belongs_to_its_list(change) -> None:
    rows = [Thing(key=f"k{n}", colour=Colour.RED, at=START) for n in range(5)]
    given = (("colour", "red"), ("sort", "key"))
    cursor = THINGS.page(rows, Asked(given, 2, None), "mine").next
    assert cursor is not None
    listing, scope = THINGS, "mine"
    match change:
        case "filter":
            given = (("colour", "blue"), ("sort", "key"))
        case "sort":
            given = (("colour", "red"), ("sort", "-key"))
        case "scope":
            scope = "other"
        case "list":
            listing = Listing("others", Thing, key=lambda one: one.key, sort="-at")
        case "bytes":
            cursor = cursor[:-2] + "xx"
    with pytest.raises(Problem) as refused:
        listing.page(rows, Asked(given, 2, cursor), scope)
    assert refused.value.code == "cursor_invalid"


@settings(max_examples=200, deadline=None)
@given(cursor=st.text(max_size=40) | st.binary(max_size=30).map(lambda b: b.hex()))
def test_no_cursor_breaks_a_list(cursor) -> None:
    with pytest.raises(Problem) as refused:
        THINGS.page([], Asked((), 2, cursor))
    assert refused.value.code == "cursor_invalid"
