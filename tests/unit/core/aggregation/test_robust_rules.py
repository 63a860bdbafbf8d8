"""Rules over rows against published golden vectors, their conditions, and blocks that change no bit."""

import numpy as np
import pytest
from fedbus_core.aggregation.grid import Grid, Numbers, exponents_of
from fedbus_core.aggregation.rows import Row, combine
from fedbus_core.aggregation.rules import RULES
from fedbus_core.aggregation.rules.rule import FunctionRule, RowsRule
from fedbus_core.aggregation.tensorfile import Array, parse_layout, views, write
from fedbus_schemas.aggregators import parameters_of
from fedbus_schemas.sessions import SessionSettings


class Memory:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def read_at(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]


def made(name: str, updates: list[dict[str, Array]], tiles: int | None = None, **given) -> bytes:
    rule = RULES[name](parameters_of(name, given).given)
    assert isinstance(rule, RowsRule)
    files = [write(one) for one in updates]
    layout = parse_layout(files[0], len(files[0]))
    base = write({key: np.zeros_like(one) for key, one in updates[0].items()})
    grid = Grid(layout, exponents_of(layout, base), Numbers())
    rows = [Row(parse_layout(data, len(data)), Memory(data)) for data in files]
    return bytes(combine(rule, grid, rows, tiles))


def result(name: str, points: list[list[float]], **given) -> list[float]:
    data = made(name, [{"x": np.array(point, float)} for point in points], **given)
    return [float(one) for one in views(parse_layout(data, len(data)), data)["x"]]


GOLDEN = [[(7 * i + 3 * j) % 5 + 0.1 * i for j in range(4)] for i in range(8)]
GOLDEN += [[100, -100, 100, -100], [50, 50, -50, 50]]
"""Security research, 7: eight honest rows and two that are not."""
PLANE = [[0, 0], [1, 1], [1.1, 0.9], [0.9, 1.1], [10, -10], [1.05, 1], [0.95, 1.02]]
"""Peers research, 5.3."""


@pytest.mark.parametrize(
    ("name", "given", "points", "expected"),
    [
        ("median", {}, GOLDEN, [3.0, 2.45, 1.9, 2.8]),
        ("trimmed_mean", {"trim": 0.2}, GOLDEN, [3.05, 2.233333, 2.033333, 2.666667]),
        ("krum", {"byzantine": 2}, GOLDEN, [2.6, 0.6, 3.6, 1.6]),
        ("multi_krum", {"byzantine": 2}, GOLDEN, [2.35, 2.225, 2.1, 2.6]),
        ("median", {}, PLANE, [1, 1]),
        ("trimmed_mean", {"trim": 0.2}, PLANE, [1, 0.784]),
        ("krum", {"byzantine": 1}, PLANE, [1, 1]),
        ("multi_krum", {"byzantine": 1, "keep": 3}, PLANE, [1, 1.0066666666666666]),
        ("median", {}, [[1, 0.2, 0.5, 1], [0.2, 0.5, 1, 0.2], [0.5, 1, 0.2, 0.5]], [0.5] * 4),
        ("trimmed_mean", {"trim": 0.25}, [[0.5], [1], [2], [100]], [1.5]),
        ("trimmed_mean", {"trim": 0.0}, [[1], [2], [6]], [3]),
        ("krum", {}, [[0.25]] * 5, [0.25]),
        ("bulyan", {"byzantine": 1}, PLANE, [1, 1.0066666666666666]),
        ("bulyan", {"byzantine": 0}, [[0.2], [0.5], [0.7], [12], [0.1], [0.1]], [13.6 / 6]),
        ("geometric_median", {"steps": 500}, GOLDEN, [2.901079, 2.0305, 2.192319, 2.538367]),
        ("geometric_median", {}, [[0.25]] * 5, [0.25]),
    ],
)
def test_golden_vectors(name, given, points, expected) -> None:
    np.testing.assert_allclose(result(name, points, **given), expected, rtol=0, atol=5e-7)


@pytest.mark.parametrize(
    "name",
    [
        "median",
        "trimmed_mean",
        "krum",
        "multi_krum",
        "bulyan",
        "geometric_median",
        "nearest_neighbour_mixing",
    ],
)
def test_the_size_of_blocks_changes_no_bit(name: str) -> None:
    rng = np.random.default_rng(3)
    updates = [
        {"a": rng.normal(size=20_001).astype("f4"), "b": rng.normal(size=3), "n": np.array(i)}
        for i in range(9)
    ]
    assert len({made(name, updates, tiles) for tiles in (None, 1, 2, 5)}) == 1


def test_mixing_by_its_definition() -> None:
    points = np.array(GOLDEN, float)
    apart = ((points[:, None] - points[None]) ** 2).sum(axis=2)
    mixed = np.array([points[np.argsort(row, kind="stable")[:8]].mean(axis=0) for row in apart])
    np.testing.assert_allclose(mixed[0], [2.35, 2.225, 2.1, 2.6], atol=1e-12)  # the golden row
    expected = np.sort(mixed, axis=0)[2:8].mean(axis=0)
    found = result("nearest_neighbour_mixing", GOLDEN, byzantine=2)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_signed_zeros_leave_no_trace() -> None:
    zeros = [{"x": np.array([sign * 0.0])} for sign in (-1, 1, -1)]
    assert made("median", zeros) == made("median", zeros[::-1]) == made("median", zeros[1:2])


@pytest.mark.parametrize(("given", "needed"), [({"byzantine": 2}, 7), ({}, 5)])
def test_krum_needs_enough_updates(given: dict[str, object], needed: int) -> None:
    with pytest.raises(ValueError, match=f"needs {needed} updates"):
        result("krum", [[1.0]] * (needed - 1), **given)
    wanted = {"aggregator": "krum", "aggregator_parameters": given}
    with pytest.raises(ValueError, match=f"set minimum to {needed} or more"):
        SessionSettings.model_validate({**wanted, "minimum": needed - 1})
    SessionSettings.model_validate({**wanted, "minimum": needed})


@pytest.mark.parametrize("name", sorted(RULES))
def test_just_the_rules_over_rows_compare(name: str) -> None:
    given = parameters_of(name, {})
    assert given.compares == isinstance(RULES[name](given.given), RowsRule | FunctionRule)
