"""The known-answer test passes here, and says what to do where it does not."""

import numpy as np
import pytest
from fedbus_core.aggregation import known_answers
from fedbus_core.aggregation.checks import Finding
from fedbus_core.aggregation.exact import Grid, Kind
from fedbus_core.aggregation.known_answers import NumericsError, self_test
from fedbus_core.aggregation.tensorfile import Array, Buffer, Layout
from fedbus_schemas.refusals import RefusalCode


def test_it_passes() -> None:
    self_test()


def test_another_bit_stops_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_answers, "MODEL_SHA256", "0" * 64)
    with pytest.raises(NumericsError, match="Install the pinned numpy"):
        self_test()


def test_flushing_to_zero_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = known_answers._tensors

    def flushed(number: int) -> dict[str, Array]:
        tensors = whole(number)
        return tensors | {"subnormal": np.zeros_like(tensors["subnormal"])}

    monkeypatch.setattr(known_answers, "_tensors", flushed)
    with pytest.raises(NumericsError):
        self_test()


def test_every_path_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[tuple[str, str]] = set()

    def watch(grid: Grid, layout: Layout, buffer: Buffer) -> Finding | None:
        seen.update((plan.kind.value, plan.spec.dtype) for plan in grid.plans)
        return Finding(RefusalCode.NOT_FINITE, "x", "made up")

    monkeypatch.setattr(known_answers, "check_update", watch)
    with pytest.raises(NumericsError, match="made up"):
        self_test()
    assert {kind for kind, _ in seen} == {kind.value for kind in Kind}
    assert {dtype for kind, dtype in seen if kind == "exact"} == {"F32", "F16", "BF16"}
    assert {dtype for kind, dtype in seen if kind == "wide"} == {"F64", "F32", "BF16"}
