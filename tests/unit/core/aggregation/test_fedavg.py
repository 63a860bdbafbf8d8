"""FedAvg against published and generated vectors of other implementations."""

import numpy as np
import pytest
from fedbus_core.aggregation.exact import Accumulator, Grid, Numbers, exponents_of
from fedbus_core.aggregation.tensorfile import Array, parse_layout, views, write


def average(clients: list[list[Array]], weights: list[int]) -> list[Array]:
    named = [{f"{i:02d}": array for i, array in enumerate(arrays)} for arrays in clients]
    base = write({name: np.zeros_like(array) for name, array in named[0].items()})
    layout = parse_layout(base, len(base))
    total = Accumulator(Grid(layout, exponents_of(layout, base), Numbers()))
    for update, weight in zip(named, weights, strict=True):
        total.add(update, weight)
    model = b"".join(total.mean(base))
    return list(views(parse_layout(model, len(model)), model).values())


def test_equal_models_stay_as_they_are() -> None:
    """Flower's test of `aggregate`: two clients with the same arrays, one and two examples."""
    arrays: list[Array] = [
        np.array([[1.0, 2, 3], [4, 5, 6]], "f4"),
        np.array([7.0, 8, 9, 10], "f4"),
    ]
    for found, array in zip(average([arrays, arrays], [1, 2]), arrays, strict=True):
        np.testing.assert_array_equal(found, array)


def test_two_clients() -> None:
    """Flower's FedAvgM test at rate 1 without momentum, which is FedAvg."""
    first: list[Array] = [np.array([[1.0, 2, 3], [4, 5, 6]], "f4"), np.array([7.0, 8, 9, 10], "f4")]
    second: list[Array] = [
        np.array([[29.0, 23, 19], [17, 13, 11]], "f4"),
        np.array([7.0, 5, 3, 2], "f4"),
    ]
    matrix, vector = average([first, second], [1, 2])
    third = [[59 / 3, 16, 41 / 3], [38 / 3, 31 / 3, 28 / 3]]
    np.testing.assert_array_equal(matrix, np.array(third, "f4"))
    np.testing.assert_array_equal(vector, np.array([7, 6, 5, 14 / 3], "f4"))
    (scalar,) = average([[np.array(1.0)], [np.array(3.0)]], [1, 2])
    assert float(scalar.reshape(-1)[0]) == 7 / 3


def test_float64_vector_of_another_implementation() -> None:
    clients: list[list[Array]] = [
        [np.array([0.3, -0.2, 0.2, 0.9])],
        [np.array([0.8, 0.4, 1.0, -1.0])],
    ]
    (found,) = average(clients, [1, 3])
    expected = [0.675, 0.25000000000000006, 0.8, -0.525]
    np.testing.assert_allclose(np.asarray(found, "f8"), expected, rtol=0, atol=1e-15)


def test_float32_vector_of_another_implementation() -> None:
    clients: list[list[Array]] = [
        [np.array([0.1, 0.2, 0.3], "f4")],
        [np.array([0.4, 0.5, 0.6], "f4")],
        [np.array([0.7, 0.8, 0.9], "f4")],
    ]
    (found,) = average(clients, [1, 2, 4])
    expected = np.array([0.5285714268684387, 0.6285714507102966, 0.7285714745521545], "f4")
    np.testing.assert_array_max_ulp(np.asarray(found, "f4"), expected, 1)


def test_the_mean_of_nothing_is_an_error() -> None:
    base = write({"a": np.zeros(1)})
    layout = parse_layout(base, len(base))
    total = Accumulator(Grid(layout, exponents_of(layout, base), Numbers()))
    with pytest.raises(ValueError, match="no updates"):
        next(total.mean(base))
