"""The clients' metrics as one: the same in any order, and never a number that cannot be sent."""

import math
from fractions import Fraction

import pytest
from fedbus_core.aggregation.metrics import weighted_metrics
from fedbus_schemas.events import FinishTimings
from fedbus_schemas.ids import SETTINGS_MAX
from fedbus_schemas.work import FinishResult
from hypothesis import given
from hypothesis import strategies as st

FINITE = st.floats(allow_nan=False, allow_infinity=False)
ITEMS = st.lists(
    st.tuples(st.integers(1, 2**20), st.dictionaries(st.sampled_from("abc"), FINITE)), max_size=6
)


def test_weighs_each_metric_over_those_who_report_it() -> None:
    items = [(1, {"loss": 1.0}), (3, {"loss": 5.0, "accuracy": 0.5}), (0, {"accuracy": 9.0})]
    assert list(weighted_metrics(items).items()) == [("accuracy", 0.5), ("loss", 4.0)]
    assert weighted_metrics([]) == {}
    assert weighted_metrics([(0, {"loss": 1.0})]) == {}


@given(items=ITEMS)
def test_is_the_same_in_any_order_and_close_to_the_exact_mean(
    items: list[tuple[int, dict[str, float]]],
) -> None:
    found = weighted_metrics(items)
    assert weighted_metrics(reversed(items)) == found
    for name, mean in found.items():
        terms = [(weight, Fraction(one[name])) for weight, one in items if name in one]
        total = sum((weight * value for weight, value in terms), Fraction(0))
        exact = total / sum(weight for weight, _ in terms)
        size = max(abs(value) for _, value in terms)
        assert math.isfinite(mean)
        bound = size * Fraction(len(terms) + 2, 2**52) + Fraction(1, 2**1070)
        assert abs(Fraction(mean) - exact) <= bound


@pytest.mark.parametrize("sign", [1, -1])
def test_large_values_do_not_overflow_in_any_order(sign: int) -> None:
    items = [(2**20, {"x": sign * 1.7e308}), (2**20, {"x": sign * 1.7e308}), (1, {"x": -1e308})]
    assert weighted_metrics(items) == weighted_metrics(items[::-1])
    assert abs(weighted_metrics(items)["x"]) > 1e308


def test_one_client_with_many_names_pushes_nobody_out_and_the_result_can_be_sent() -> None:
    many = {f"a{number:03d}": 1.0 for number in range(SETTINGS_MAX)}
    found = weighted_metrics([(1, {"loss": 1.0}), (1, {"loss": 3.0}), (1, many)])
    assert found["loss"] == 2.0
    assert len(found) == SETTINGS_MAX
    assert list(found) == sorted(found)
    result = FinishResult(
        round=1, attempt=1, step=1, rule="fedavg/1", metrics=found, timings=FinishTimings()
    )
    assert result.metrics == found
