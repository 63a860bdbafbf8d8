"""Partials: what is written is read back, and nothing else is accepted."""

from collections.abc import Callable

import numpy as np
import pytest
from fedbus_core.aggregation.exact import Accumulator, Grid, Numbers, exponents_of
from fedbus_core.aggregation.grid import SMALL_ITEMS
from fedbus_core.aggregation.tensorfile import Array, TensorFileError, parse_layout, views, write
from fedbus_schemas.refusals import RefusalCode

BASE: dict[str, Array] = {
    "counter": np.array([1, 2]),
    "flags": np.array([True, False]),
    "one": np.linspace(-1, 1, SMALL_ITEMS).astype("f4"),
    "two": np.zeros(3),
    "void": np.empty(0, "i4"),
}


def accumulator(numbers: Numbers | None = None) -> Accumulator:
    base = write(BASE)
    layout = parse_layout(base, len(base))
    return Accumulator(Grid(layout, exponents_of(layout, base), numbers or Numbers()))


def filled() -> Accumulator:
    total = accumulator()
    total.add(BASE, 5)
    total.add({**BASE, "counter": np.array([9, 0])}, 6)
    return total


def test_round_trip_and_going_on() -> None:
    total = filled()
    data = total.to_bytes()
    loaded = Accumulator.from_bytes(total.grid, data)
    assert (loaded.count, loaded.weight) == (2, 11)
    assert loaded.to_bytes() == data
    total.add(BASE, 7)
    loaded.add(BASE, 7)
    assert loaded.to_bytes() == total.to_bytes()
    assert b"".join(loaded.mean(write(BASE))) == b"".join(total.mean(write(BASE)))


def test_an_empty_partial_is_one_too() -> None:
    data = accumulator().to_bytes()
    assert Accumulator.from_bytes(accumulator().grid, data).to_bytes() == data


def test_the_content_is_documented() -> None:
    data = filled().to_bytes()
    found = views(parse_layout(data, len(data)), data)
    assert {name: (str(view.dtype), view.shape) for name, view in found.items()} == {
        "count": ("int64", ()),
        "weight": ("int64", ()),
        "00000.rows": ("uint8", (2, 16)),
        "00000.times": ("int64", (2,)),
        "00001.sum0": ("int64", (2,)),
        "00002.sum0": ("int64", (SMALL_ITEMS,)),
        "00003.sum0": ("int64", (3,)),
        "00003.sum1": ("int64", (3,)),
        "00004.rows": ("uint8", (1, 0)),
        "00004.times": ("int64", (1,)),
    }


def changed(name: str, value: Array | None) -> Callable[[dict[str, Array]], None]:
    def change(tensors: dict[str, Array]) -> None:
        if value is None:
            del tensors[name]
        else:
            tensors[name] = value

    return change


def swap_rows(tensors: dict[str, Array]) -> None:
    tensors["00000.rows"] = tensors["00000.rows"][::-1]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (changed("count", None), "header"),
        (changed("more", np.zeros(1)), "header"),
        (changed("weight", np.array(11.0)), "header"),
        (changed("00000.rows", None), "missing"),
        (changed("00000.rows", np.zeros(3, "u1")), "missing"),
        (changed("00000.times", np.array([2])), "header"),
        (changed("00000.times", np.array([1, 2])), "do not count"),
        (changed("00000.times", np.array([2, 0])), "do not count"),
        (swap_rows, "not sorted"),
        (changed("count", np.array(-1)), "limits"),
        (changed("count", np.array(2049)), "limits"),
        (changed("weight", np.array(1)), "limits"),
        (changed("weight", np.array(2**21 + 1)), "limits"),
        (changed("00001.sum0", np.array([0, 12])), "larger"),
        (changed("00001.sum0", np.array([-1, 0])), "larger"),
        (changed("00003.sum1", np.array([0, 0, 2**52 + 1])), "larger"),
        (changed("00003.sum1", np.array([0, 0, -(2**63)])), "larger"),
    ],
)
def test_what_could_not_have_been_written_is_refused(
    change: Callable[[dict[str, Array]], None], says: str
) -> None:
    good = filled().to_bytes()
    tensors = views(parse_layout(good, len(good)), good)
    change(tensors)
    with pytest.raises(TensorFileError, match=says) as caught:
        Accumulator.from_bytes(filled().grid, write(tensors))
    assert caught.value.code is RefusalCode.UNREADABLE


def test_another_grids_partial_and_rubbish_are_refused() -> None:
    for data in (b"", b"rubbish!" * 9, write({"a": np.zeros(1)}), filled().to_bytes() + b"\0"):
        with pytest.raises(TensorFileError):
            Accumulator.from_bytes(filled().grid, data)
    with pytest.raises(TensorFileError, match="limits"):
        Accumulator.from_bytes(accumulator(Numbers(weight_bits=2)).grid, filled().to_bytes())
