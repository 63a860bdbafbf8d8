"""What a rule over rows takes: blocks of all clients and one model, not all clients' models."""

import tracemalloc
from pathlib import Path

import numpy as np
from fedbus_combiner.spool import Spooled
from fedbus_core.aggregation.grid import Grid, Numbers, exponents_of
from fedbus_core.aggregation.rows import BLOCK_BYTES_MAX, Row, combine
from fedbus_core.aggregation.rules import RULES
from fedbus_core.aggregation.rules.rule import RowsRule
from fedbus_core.aggregation.tensorfile import parse_layout, write

CLIENTS = 64
MODEL_BYTES = 40_000_000
SLACK = 16 * 1024 * 1024


def test_a_median_of_64_models_of_40_mb(tmp_path: Path) -> None:
    data = write({"w": np.arange(MODEL_BYTES // 4, dtype="<f4")})
    layout = parse_layout(data, len(data))
    grid = Grid(layout, exponents_of(layout, data), Numbers())
    rows = []
    for number in range(CLIENTS):
        kept = Spooled(tmp_path / str(number))
        kept.path.hardlink_to(tmp_path / "0") if number else kept.write(data)
        rows.append(Row(layout, kept))
    rule = RULES["median"]({})
    assert isinstance(rule, RowsRule)
    tracemalloc.start()
    try:
        out = combine(rule, grid, rows)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert out == data
    print(f"median of {CLIENTS} x 40 MB: {peak / 1e6:.0f} MB at most, of which 40 the new model")
    assert peak < len(data) + BLOCK_BYTES_MAX + SLACK
