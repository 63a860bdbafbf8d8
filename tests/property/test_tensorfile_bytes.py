"""Whatever the bytes, reading a tensor file or a partial ends in a layout or a `TensorFileError`."""

import json
import tracemalloc

import numpy as np
import pytest
from fedbus_core.aggregation.checks import check_model, check_update
from fedbus_core.aggregation.exact import Accumulator, Grid, Numbers, exponents_of
from fedbus_core.aggregation.tensorfile import (
    DTYPES,
    HEADER_BYTES_MAX,
    Array,
    TensorFileError,
    parse_layout,
    views,
    write,
)
from hypothesis import given, settings
from hypothesis import strategies as st

GOOD = write(
    {
        "a": np.arange(6, dtype="f4").reshape(2, 3),
        "b": np.array([True]),
        "c": np.array(7),
        "d": np.arange(3, dtype="f2"),
        "e": np.arange(3, dtype="u2"),
    },
    bf16=["e"],
)
LAYOUT = parse_layout(GOOD, len(GOOD))
GRID = Grid(LAYOUT, exponents_of(LAYOUT, GOOD), Numbers())


def partial() -> bytes:
    total = Accumulator(GRID)
    total.add(GOOD, 3)
    return total.to_bytes()


PARTIAL = partial()


def read(data: bytes) -> None:
    """Do with the bytes all that a service does before it trusts them."""
    try:
        layout = parse_layout(data, len(data))
    except TensorFileError:
        return
    assert (
        sum(view.nbytes for view in views(layout, data).values()) == len(data) - layout.data_start
    )
    assert layout.digest
    check_model(layout, data, Numbers())
    if check_update(GRID, layout, data) is None:
        Accumulator(GRID).add(data, 1)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_arbitrary_bytes(data: bytes) -> None:
    read(data)
    read(len(data).to_bytes(8, "little") + data)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 2**70)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["F32", "I8", "BF16"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["dtype", "shape", "data_offsets", "a", "__metadata__"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.text(max_size=3), JSON, max_size=3), st.binary(max_size=16))
def test_arbitrary_headers(header: dict[str, object], data: bytes) -> None:
    raw = json.dumps(header).encode()
    read(len(raw).to_bytes(8, "little") + raw + data)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=4),
    st.integers(0, len(GOOD)),
)
def test_damaged_files(changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(GOOD)
    for place, value in changes:
        data[place] = value
    read(bytes(data))
    read(bytes(data[:cut]))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, len(PARTIAL) - 1), st.integers(0, 255)), min_size=1, max_size=4
    )
)
def test_damaged_partials(changes: list[tuple[int, int]]) -> None:
    data = bytearray(PARTIAL)
    for place, value in changes:
        data[place] = value
    try:
        loaded = Accumulator.from_bytes(GRID, bytes(data))
    except TensorFileError:
        return
    assert loaded.to_bytes() == bytes(data)


@pytest.mark.parametrize(
    "unit", [b"[],", b'{"a":{}},', b'"aa",', b"1000,", b'"\\u0041b":1,', b"[", b'[{"":', b"9"]
)
@pytest.mark.parametrize("start", [b"{", b'{"a":['])
def test_a_hostile_header_takes_bounded_memory(unit: bytes, start: bytes) -> None:
    raw = start + unit * ((HEADER_BYTES_MAX // 4 - len(start)) // len(unit))
    data = len(raw).to_bytes(8, "little") + raw
    tracemalloc.start()
    try:
        with pytest.raises(TensorFileError):
            parse_layout(data, len(data))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20 * len(raw)


@st.composite
def models(draw: st.DrawFn) -> dict[str, Array]:
    names = st.text(st.characters(codec="utf-8"), max_size=20).filter(lambda n: n != "__metadata__")
    kinds = st.sampled_from([kind for name, kind in DTYPES.items() if name != "BOOL"])
    model = {}
    for name in draw(st.sets(names, max_size=4)):
        kind, shape = draw(kinds), draw(st.lists(st.integers(0, 4), max_size=3))
        items = int(np.prod(shape, dtype=np.int64))
        raw = draw(st.binary(min_size=items * kind.itemsize, max_size=items * kind.itemsize))
        model[name] = np.array(np.frombuffer(raw or b"", kind) if raw else np.empty(0, kind))
        model[name] = model[name].reshape(shape)
    return model


@settings(max_examples=100, deadline=None)
@given(models())
def test_round_trips_keep_every_bit(model: dict[str, Array]) -> None:
    data = write(model)
    found = views(parse_layout(data, len(data)), data)
    assert {name: (view.dtype, view.shape, view.tobytes()) for name, view in found.items()} == {
        name: (array.dtype, array.shape, array.tobytes()) for name, array in model.items()
    }
    assert write(found) == data
