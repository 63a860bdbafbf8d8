"""The exact mean: bounds against exact fractions, extremes, signed zeros, ties, limits."""

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from fedbus_core.aggregation import counters
from fedbus_core.aggregation.exact import (
    NO_EXPONENT,
    Accumulator,
    Grid,
    Kind,
    Numbers,
    exponents_of,
)
from fedbus_core.aggregation.grid import LARGEST, SMALL_ITEMS
from fedbus_core.aggregation.kernels import bfloat16_bits
from fedbus_core.aggregation.loading import Scratch
from fedbus_core.aggregation.tensorfile import Array, parse_layout, views, write

BIG = SMALL_ITEMS + 10
LOOKED_AT = 60


def grid_of(tensors: dict[str, Array], numbers: Numbers | None = None, *bf16: str) -> Grid:
    base = write(tensors, bf16=bf16)
    layout = parse_layout(base, len(base))
    return Grid(layout, exponents_of(layout, base), numbers or Numbers())


def mean_of(total: Accumulator, previous: bytes | None = None) -> dict[str, Array]:
    data = b"".join(total.mean(previous))
    assert len(data) == total.mean_size
    return views(parse_layout(data, len(data)), data)


def sums_of(total: Accumulator) -> dict[str, Array]:
    data = total.to_bytes()
    return views(parse_layout(data, len(data)), data)


def fraction_mean(columns: list[Array], weights: list[int], place: int) -> Fraction:
    terms = (w * Fraction(float(c[place])) for c, w in zip(columns, weights, strict=True))
    return sum(terms, Fraction(0)) / sum(weights)


def grid_step(shift: int) -> Fraction:
    return Fraction(1, 2**shift) if shift >= 0 else Fraction(2**-shift)


def test_numbers_have_limits() -> None:
    assert Numbers().term_bits == 51
    assert Numbers(cohort_bits=20, weight_bits=10).term_bits == 42
    with pytest.raises(ValueError, match="weight_bits is a whole number"):
        Numbers(weight_bits=30)
    with pytest.raises(ValueError, match="cohort_bits is a whole number"):
        Numbers(cohort_bits=21)
    with pytest.raises(ValueError, match="growth_bits is a whole number"):
        Numbers(growth_bits=-1)
    # The least that can be left is one bit, and that is accepted.
    assert Numbers(weight_bits=29, cohort_bits=20, growth_bits=12).term_bits == 42


def test_exponents_and_kinds() -> None:
    spread = np.linspace(-1.0, 1.0, BIG)
    tensors: dict[str, Array] = {
        "below": (spread * 0.999).astype("f4"),
        "brain": (spread.astype("f4").view("u4") >> np.uint32(16)).astype("u2"),
        "constant": np.ones(BIG, "f4"),
        "count": np.zeros(BIG, "i4"),
        "double": spread,
        "exactly": spread.astype("f4"),
        "flags": np.zeros(BIG, "?"),
        "half": (spread * 2.0**-20).astype("f2"),
        "listed": spread.astype("f4"),
        "small": spread[:9].astype("f4"),
        "tiny": (spread * 2.0**-140).astype("f4"),
        "zeros": np.where(spread < 0, -0.0, 0.0).astype("f4"),
    }
    grid = grid_of(tensors, Numbers(wide=frozenset({"listed"})), "brain")
    none = NO_EXPONENT
    assert grid.exponents == (0, 1, none, none, none, 1, none, -19, 1, none, -139, none)
    kinds = {plan.spec.name: plan.kind for plan in grid.plans}
    assert {name for name, kind in kinds.items() if kind is Kind.EXACT} == {
        "below",
        "brain",
        "exactly",
        "half",
        "tiny",
    }
    assert kinds["count"] is Kind.COUNTER
    assert kinds["flags"] is Kind.BOOL
    plan = next(plan for plan in grid.plans if plan.spec.name == "exactly")
    assert plan.shifts == (25 - 1,)
    assert plan.limit == 128


def test_exponents_must_fit_the_layout() -> None:
    grid = grid_of({"a": np.linspace(0, 1, BIG).astype("f4")})
    with pytest.raises(ValueError, match="2 exponents for 1"):
        Grid(grid.layout, (1, 1), Numbers())
    with pytest.raises(ValueError, match="cannot have the exponent"):
        Grid(grid.layout, (200,), Numbers())
    bad = write({"a": np.append(np.zeros(BIG), math.nan).astype("f4")})
    with pytest.raises(ValueError, match="NaN"):
        exponents_of(parse_layout(bad, len(bad)), bad)


@pytest.mark.parametrize("scale", [1e-38, 1e-9, 1.0, 1e5])
@pytest.mark.parametrize("kind", ["f4", "f2", "wide f4", "f8"])
def test_the_mean_is_within_the_stated_bound(kind: str, scale: float) -> None:
    if kind == "f2":
        scale = min(max(scale, 1e-4), 1e3)
    if kind in ("wide f4", "f8"):
        scale = max(scale, 1e-9)
    random = np.random.default_rng(7)
    dtype = kind.split()[-1]
    wide = frozenset("a" if kind.startswith("wide") else "")
    columns = [(random.normal(0, scale, BIG)).astype(dtype) for _ in range(9)]
    weights = [int(n) for n in random.integers(200, 1 << 20, 9)]
    grid = grid_of({"a": columns[0]}, Numbers(wide=wide))
    total = Accumulator(grid)
    for column, weight in zip(columns, weights, strict=True):
        total.add({"a": column}, weight)
    sums = sums_of(total)
    model = mean_of(total)["a"]
    plan = grid.plans[0]
    step = grid_step(plan.shifts[-1])
    for place in range(LOOKED_AT):
        exact = fraction_mean(columns, weights, place)
        limbs = [sums[f"00000.sum{i}"] for i in range(len(plan.shifts))]
        pairs = zip(limbs, plan.shifts, strict=True)
        mean = sum((int(x[place]) * grid_step(s) for x, s in pairs), Fraction(0)) / total.weight
        bound = Fraction(total.count, total.weight) * step / 2
        if kind == "f8":  # The product with the weight rounds once.
            bound += (abs(exact) + Fraction(scale)) * grid_step(50)
        assert abs(mean - exact) <= bound
        cast = Fraction(float(np.spacing(np.abs(model[place])))) / 2
        slack = (abs(exact) + Fraction(scale)) * grid_step(50)
        assert abs(Fraction(float(model[place])) - exact) <= bound + cast + slack


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_sum_there_can_be_does_not_overflow(sign: int) -> None:
    """K = 2^c updates of weight 2^w, every element at the end of the range."""
    numbers = Numbers(cohort_bits=11, weight_bits=20)
    base = {"e": np.linspace(0, 1, SMALL_ITEMS).astype("f4"), "w": np.zeros(2, "f4")}
    grid = grid_of(base, numbers)
    extreme = {
        "e": np.full(SMALL_ITEMS, sign * grid.plans[0].limit, "f4"),
        "w": np.full(2, sign * 2.0**32, "f4"),
    }
    total = Accumulator(grid)
    updates = [(extreme, numbers.weight_max)] * 128
    for _ in range(numbers.count_max // 128):
        total.add_all(updates)
    assert total.weight == 2**31
    sums = sums_of(total)
    assert (sums["00000.sum0"] == sign * 2**62).all()
    assert (sums["00001.sum0"] == sign * 2**62).all()
    model = mean_of(total)
    assert (model["e"] == sign * 128).all()
    assert (model["w"] == sign * 2.0**32).all()
    with pytest.raises(ValueError, match=r"0\.\.2048 updates"):
        total.add(extreme, 1)
    with pytest.raises(ValueError, match=r"0\.\.2048 updates"):
        total.merge(total)
    assert total.count == 2048


def test_the_model_never_holds_infinity() -> None:
    """On a coarse grid the largest float32 would round up; the mean stays inside the range."""
    top = np.full(BIG, LARGEST["F32"], "f4")
    top[0] = 0
    grid = grid_of({"a": top}, Numbers(weight_bits=20, cohort_bits=20, growth_bits=12))
    total = Accumulator(grid)
    total.add({"a": top}, 1)
    assert mean_of(total)["a"][1] == np.float32(LARGEST["F32"])


def test_zeros_come_out_positive() -> None:
    spread = np.linspace(-1, 1, BIG)
    base: dict[str, Array] = {"d": np.zeros(3), "e": spread.astype("f4"), "s": np.zeros(3, "f4")}
    total = Accumulator(grid_of(base))
    zero = {name: np.full_like(tensor, -0.0) for name, tensor in base.items()}
    total.add(zero, 3)
    for tensor in mean_of(total).values():
        assert not np.signbit(tensor).any()


def test_counters_take_the_largest_and_integers_never_pass_through_float() -> None:
    base: dict[str, Array] = {
        "n": np.zeros(2, "i8"),
        "u": np.zeros((), "u8"),
        "z": np.empty(0, "i2"),
    }
    total = Accumulator(grid_of(base))
    first: dict[str, Array] = {
        **base,
        "n": np.array([2**62 + 1, -5]),
        "u": np.array(2**64 - 1, "u8"),
    }
    second: dict[str, Array] = {**base, "n": np.array([2**62, -7])}
    total.add(first, 1)
    total.add(second, 9)
    model = mean_of(total)
    assert model["n"].tolist() == [2**62 + 1, -5]
    assert model["u"] == 2**64 - 1
    total.subtract(first, 1)
    assert mean_of(total)["n"].tolist() == [2**62, -7]


def test_counters_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters, "COUNTER_BYTES_MAX", 16)
    total = Accumulator(grid_of({"n": np.array(0)}))
    total.add({"n": np.array(1)}, 1)
    total.add({"n": np.array(2)}, 1)
    before = total.to_bytes()
    with pytest.raises(ValueError, match="COUNTER_BYTES_MAX"):
        total.add({"n": np.array(3)}, 1)
    total.subtract({"n": np.array(1)}, 1)
    total.add({"n": np.array(1)}, 1)
    assert total.to_bytes() == before


def test_bools_follow_the_weighted_majority_and_ties_the_base() -> None:
    base = write({"m": np.array([True, False, True, False])})
    layout = parse_layout(base, len(base))
    total = Accumulator(Grid(layout, exponents_of(layout, base), Numbers()))
    total.add({"m": np.array([True, True, False, False])}, 3)
    total.add({"m": np.array([False, False, True, False])}, 2)
    assert mean_of(total, base)["m"].tolist() == [True, True, False, False]
    total.add({"m": np.array([False, False, True, False])}, 1)
    assert mean_of(total, base)["m"].tolist() == [True, False, True, False]
    with pytest.raises(ValueError, match="tie"):
        mean_of(total)


def test_empty_tensors_and_empty_models() -> None:
    total = Accumulator(grid_of({"a": np.empty((0, 2), "f4"), "b": np.empty(0, "?")}))
    with pytest.raises(ValueError, match="no updates"):
        next(total.mean())
    total.add({"a": np.empty((0, 2), "f4"), "b": np.empty(0, "?")}, 1)
    assert {name: view.shape for name, view in mean_of(total).items()} == {"a": (0, 2), "b": (0,)}
    nothing = Accumulator(grid_of({}))
    nothing.add(write({}), 1)
    assert b"".join(nothing.mean()) == write({})


def test_bfloat16_is_rounded_once() -> None:
    near = [1.0, 1.00390625, 1.01171875, 3.0e38, 1e-40, 0.0, 2.0**-133, 1.5 * 2.0**-133]
    tiny = [0.0, 2.0**-30, -(2.0**-30), 2.0**-50, -(2.0**-50)]
    values = np.array([s * v * (1 + t) for v in near for t in tiny for s in (1, -1)])
    bits = np.frombuffer(bfloat16_bits(values.copy(), Scratch()), "<u2")
    found = (bits.astype("u4") << np.uint32(16)).view("f4")
    for value, result, raw in zip(values, found, bits, strict=True):
        for other in ((int(raw) - 1) % 2**16, (int(raw) + 1) % 2**16):
            rival = (np.array([other], "u4") << np.uint32(16)).view("f4")[0]
            if not np.isfinite(rival):
                continue
            mine = abs(Fraction(float(result)) - Fraction(float(value)))
            theirs = abs(Fraction(float(rival)) - Fraction(float(value)))
            assert mine < theirs or (mine == theirs and raw % 2 == 0) or rival == result


def test_bfloat16_models_stay_bfloat16() -> None:
    half = (np.linspace(-1, 1, BIG).astype("f4").view("u4") >> np.uint32(16)).astype("u2")
    for items in (BIG, 5):
        total = Accumulator(grid_of({"b": half[:items]}, None, "b"))
        total.add({"b": half[:items]}, 5)
        data = b"".join(total.mean())
        assert parse_layout(data, len(data)).tensors[0].dtype == "BF16"
        found = views(parse_layout(data, len(data)), data)["b"]
        np.testing.assert_array_equal(found[found != 0], half[:items][found != 0])


def test_a_file_and_its_views_count_the_same_also_unaligned() -> None:
    tensors: dict[str, Array] = {
        "a": np.array([True]),
        "b": np.linspace(-1, 1, BIG).astype("f4"),
        "c": np.array([1, 2, 3], "i1"),
        "d": np.linspace(0, 9, 11),
    }
    data = write(tensors)
    grid = grid_of(tensors)
    from_file, from_views = Accumulator(grid), Accumulator(grid)
    from_file.add(memoryview(data), 3)
    from_views.add(tensors, 3)
    assert from_file.to_bytes() == from_views.to_bytes()


@pytest.mark.parametrize("weight", [0, -1, 2**20 + 1, True, 1.0])
def test_a_wrong_weight_is_our_bug(weight: int) -> None:
    total = Accumulator(grid_of({"a": np.zeros(1)}))
    with pytest.raises(ValueError, match="a weight is a whole number"):
        total.add({"a": np.zeros(1)}, weight)
    assert total.count == 0


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: {"b": np.zeros(1)},
        lambda: {"a": np.zeros(2)},
        lambda: {"a": np.zeros(1, "f4")},
        lambda: write({"a": np.zeros(2)}),
        lambda: b"no file",
    ],
)
def test_an_unchecked_update_is_our_bug(wrong: Callable[[], dict[str, Array] | bytes]) -> None:
    total = Accumulator(grid_of({"a": np.zeros(1)}))
    with pytest.raises(ValueError, match=r"check it first|not a tensor file"):
        total.add(wrong(), 1)
    assert total.to_bytes() == Accumulator(total.grid).to_bytes()


def test_what_was_never_added_cannot_be_taken_off() -> None:
    tensors: dict[str, Array] = {"a": np.zeros(1), "n": np.array(4)}
    total = Accumulator(grid_of(tensors))
    with pytest.raises(ValueError, match="updates, not -1"):
        total.subtract(tensors, 1)
    total.add(tensors, 2)
    with pytest.raises(ValueError, match="never added"):
        total.subtract(tensors, 1)
    total.add(tensors, 2)
    with pytest.raises(ValueError, match="never added"):
        total.subtract({**tensors, "n": np.array(5)}, 2)
    with pytest.raises(ValueError, match="different grids"):
        total.merge(Accumulator(grid_of({"a": np.zeros(2)})))


def test_the_model_is_written_into_given_memory() -> None:
    tensors = {"a": np.linspace(0, 1, BIG).astype("f4")}
    total = Accumulator(grid_of(tensors))
    total.add(tensors, 1)
    out = bytearray(total.mean_size + 3)
    written = total.mean_into(out)
    assert bytes(out[:written]) == b"".join(total.mean())
    assert bytes(out[written:]) == bytes(3)
    with pytest.raises(ValueError, match="needs"):
        total.mean_into(bytearray(total.mean_size - 1))
