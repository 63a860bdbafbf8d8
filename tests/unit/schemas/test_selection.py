"""Queries for clients: what matches, why not, and the text form."""

import pytest
from fedbus_schemas.ids import AttributeKey, Scalar
from fedbus_schemas.selection import (
    BadQuery,
    ClientQuery,
    Condition,
    Op,
    matches,
    mismatch,
    parse_conditions,
    show_conditions,
)
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

CLIENT = "caaaaaaaaaaaaaaaa"
SITE: dict[str, Scalar] = {"site": "eu", "gpu": 2, "load": 0.5, "ready": True, "label": "lab 7"}


def chosen(text: str, attributes: dict[str, Scalar] | None = None) -> bool:
    query = ClientQuery(where=parse_conditions(text))
    return matches(query, CLIENT, "berlin", SITE if attributes is None else attributes)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("", True),
        ("site=eu", True),
        ("site==eu", True),
        ("site=us", False),
        ("site!=us", True),
        ("site!=eu", False),
        ("gpu>=2", True),
        ("gpu>2", False),
        ("gpu<2.5", True),
        ("gpu<=1", False),
        ("gpu=2.0", True),
        ("load>0.4,load<0.6", True),
        ("load>0.4,load<0.5", False),
        ("site=eu|us", True),
        ("site=us|asia", False),
        ("gpu=1|2", True),
        ("label~lab", True),
        ("label~Lab", False),
        ("label=lab 7", True),
        ('label="lab 7"', True),
        ("ready=true", True),
        ("ready=false", False),
        ("ready=1", False),
        ("gpu", True),
        ("!gpu", False),
        ("disk", False),
        ("!disk", True),
        ("disk!=1", False),
        ('gpu="2"', False),
        ("gpu!=eu", True),
        ("site<f", True),
        ("site<1", False),
        (" site = eu , gpu >= 1 ", True),
    ],
)
def test_conditions(text: str, holds: bool) -> None:
    assert chosen(text) is holds


def test_names_and_pseudonyms() -> None:
    for ids, named in (((), True), (("berlin",), True), ((CLIENT, "x"), True), (("x",), False)):
        assert matches(ClientQuery(ids=ids), CLIENT, "berlin", {}) is named
    both = ClientQuery(ids=("berlin",), where=parse_conditions("gpu"))
    assert not matches(both, CLIENT, "berlin", {})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("gpu>=4", "gpu>=4: it is 2"),
        ("disk>1", "disk>1: the client does not have this attribute"),
        ("disk", "disk: the client does not have it"),
        ("!gpu", "!gpu: the client has it"),
        ('gpu>="4"', 'gpu>="4": it is 2, a number, compared with a text'),
        ("site=us,gpu>4", "site=us: it is eu"),
    ],
)
def test_why_not(text: str, why: str) -> None:
    assert mismatch(ClientQuery(where=parse_conditions(text)), CLIENT, "berlin", SITE) == why


def test_why_not_by_name() -> None:
    assert mismatch(ClientQuery(ids=("x",)), CLIENT, "b", {}) == "not among the clients named"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("site=", "write a value after the sign"),
        ("=eu", "is no condition"),
        (",", "is no condition"),
        ("site=eu,", "is no condition"),
        ("my site=eu", "is no condition"),
        ("1gpu=2", "begins with a letter"),
        ("gpu>1|2", "several values go with = only"),
        ("!gpu=2", "write gpu!=VALUE"),
        ("gpu>true", "have no order"),
        ("label~7", "contains takes a text"),
        ('label="a', "not closed"),
        ('label="a"b', "not a text in double quotes"),
        ('label=a"b"', "write a value after the sign"),
        ("load=1e999", "finite"),
        ("a=" + "x" * 5000, "at most 4096"),
        (",".join(["a"] * 17), "17 conditions, at most 16"),
        ("a=" + "|".join(["x"] * 65), "at most 64"),
    ],
)
def test_text_that_cannot_be_read(text: str, says: str) -> None:
    with pytest.raises(BadQuery, match=r".") as raised:
        parse_conditions(text)
    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("op", "value"),
    [
        (Op.IN, "eu"),
        (Op.IN, ()),
        (Op.EQ, ("eu",)),
        (Op.EXISTS, "yes"),
        (Op.CONTAINS, 7),
        (Op.LT, True),
        (Op.EQ, None),
    ],
)
def test_values_that_do_not_fit(op: Op, value: object) -> None:
    with pytest.raises(ValidationError):
        Condition.model_validate({"key": "a", "op": op, "value": value})


def test_a_typo_in_a_query_is_refused() -> None:
    with pytest.raises(ValidationError):
        ClientQuery.model_validate({"idz": ["a"]})


scalars = st.one_of(
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=12),
)
keys = st.from_regex(TypeAdapter(AttributeKey).json_schema()["pattern"], fullmatch=True)


@st.composite
def conditions(draw: st.DrawFn) -> Condition:
    op = draw(st.sampled_from(Op))
    values = {
        Op.IN: st.lists(scalars, min_size=1, max_size=4).map(tuple),
        Op.EXISTS: st.booleans(),
        Op.CONTAINS: st.text(max_size=12),
    }
    ordered = scalars.filter(lambda one: not isinstance(one, bool))
    value = draw(values.get(op, scalars if op in (Op.EQ, Op.NE) else ordered))
    return Condition(key=draw(keys), op=op, value=value)


@given(st.lists(conditions(), max_size=16).map(tuple))
def test_text_there_and_back(given_conditions: tuple[Condition, ...]) -> None:
    text = show_conditions(given_conditions)
    again = parse_conditions(text)
    assert show_conditions(again) == text
    for one, other in zip(given_conditions, again, strict=True):
        assert (one.key, one.op) == (other.key, other.op)
        pair = (other.value, other.value[:1]) if isinstance(other.value, tuple) else (other.value,)
        assert one.value in pair


@given(conditions(), st.dictionaries(keys, scalars, max_size=3), scalars)
def test_never_fails_and_explains(
    condition: Condition, attributes: dict[str, Scalar], value: Scalar
) -> None:
    query = ClientQuery(where=(condition,))
    for having in (attributes, {**attributes, condition.key: value}):
        why = mismatch(query, CLIENT, "berlin", having)
        assert matches(query, CLIENT, "berlin", having) is (why is None)
        assert why is None or why.strip()


@given(keys, scalars, scalars)
def test_opposites(key: str, wanted: Scalar, actual: Scalar) -> None:
    def holds(op: Op) -> bool:
        query = ClientQuery(where=(Condition(key=key, op=op, value=wanted),))
        return matches(query, CLIENT, "berlin", {key: actual})

    assert holds(Op.EQ) is not holds(Op.NE)
    if not isinstance(wanted, bool):
        assert holds(Op.LTE) is (holds(Op.LT) or (holds(Op.EQ)))
        assert holds(Op.GTE) is (holds(Op.GT) or (holds(Op.EQ)))
