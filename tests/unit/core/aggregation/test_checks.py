"""Every way an update can be wrong has its code and names the tensor."""

import math

import numpy as np
import pytest
from fedbus_core.aggregation.checks import check_model, check_update, check_weight
from fedbus_core.aggregation.exact import Grid, Numbers, exponents_of
from fedbus_core.aggregation.grid import LARGEST, SMALL_ITEMS
from fedbus_core.aggregation.tensorfile import Array, parse_layout, write
from fedbus_schemas.events import RefusedUpdate
from fedbus_schemas.refusals import RefusalCode

BF16 = ("brain", "brain_small")
SPREAD = np.linspace(-1.0, 1.0, SMALL_ITEMS + 10)


def upper_half(values: Array) -> Array:
    return (values.astype("<f4").view("<u4") >> np.uint32(16)).astype("<u2")


def model() -> dict[str, Array]:
    """Largest magnitude 1 everywhere: e = 1, and with 6 bits of growth R = 128."""
    return {
        "brain": upper_half(SPREAD),
        "brain_small": upper_half(SPREAD[:3]),
        "counter": np.array([1, -2]),
        "double": np.zeros(2),
        "empty": np.empty(0, "f4"),
        "flags": np.array([True, False]),
        "half": SPREAD.astype("f2"),
        "half_small": SPREAD[:3].astype("f2"),
        "single": SPREAD.astype("f4"),
        "small": np.zeros((2, 2), "f4"),
    }


def grid(numbers: Numbers | None = None) -> Grid:
    base = write(model(), bf16=BF16)
    layout = parse_layout(base, len(base))
    return Grid(layout, exponents_of(layout, base), numbers or Numbers())


def code_of(tensors: dict[str, Array], bf16: tuple[str, ...] = BF16) -> tuple[RefusalCode, str]:
    data = write(tensors, bf16=bf16)
    finding = check_update(grid(), parse_layout(data, len(data)), data)
    assert finding is not None
    assert finding.detail
    return finding.code, finding.tensor


def passes(tensors: dict[str, Array]) -> bool:
    data = write(tensors, bf16=BF16)
    return check_update(grid(), parse_layout(data, len(data)), data) is None


def test_the_base_itself_passes() -> None:
    assert passes(model())


def test_names_types_and_shapes_must_be_the_bases() -> None:
    missing = model()
    del missing["small"]
    assert code_of(missing) == (RefusalCode.TENSOR_MISSING, "small")
    assert code_of(model() | {"more": np.zeros(1)}) == (RefusalCode.TENSOR_UNKNOWN, "more")
    wider = model() | {"small": np.zeros((2, 2))}
    assert code_of(wider) == (RefusalCode.DTYPE_MISMATCH, "small")
    raw = (RefusalCode.DTYPE_MISMATCH, "brain")
    assert code_of(model(), bf16=("brain_small",)) == raw
    turned = model() | {"small": np.zeros(4, "f4")}
    assert code_of(turned) == (RefusalCode.SHAPE_MISMATCH, "small")


@pytest.mark.parametrize("place", [0, 2, -1])
@pytest.mark.parametrize("value", [math.nan, -math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "name", ["brain", "brain_small", "double", "half", "half_small", "single", "small"]
)
def test_nan_and_infinity_are_found_anywhere(name: str, value: float, place: int) -> None:
    tensors = model()
    bad = tensors[name].copy().reshape(-1)
    if name in BF16:
        bad[min(place, bad.size - 1)] = upper_half(np.array([value]))[0]
    else:
        bad[min(place, bad.size - 1)] = value
    tensors[name] = bad.reshape(tensors[name].shape)
    assert code_of(tensors) == (RefusalCode.NOT_FINITE, name)


def test_a_signalling_nan_is_found_without_a_warning() -> None:
    bad = np.zeros(4, "<u4")
    bad[1] = 0x7F800001
    tensors = model() | {"small": bad.view("<f4").reshape(2, 2)}
    assert code_of(tensors) == (RefusalCode.NOT_FINITE, "small")


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("name", "limit"),
    [("single", 128.0), ("half", 128.0), ("small", 2.0**32), ("double", 2.0**32)],
)
def test_the_range_ends_exactly_at_r(name: str, limit: float, sign: int) -> None:
    edge = model()[name].copy().reshape(-1)
    kind = edge.dtype.type
    edge[-1] = kind(sign * limit)
    shape = model()[name].shape
    assert passes(model() | {name: edge.reshape(shape)})
    edge[-1] = np.nextafter(kind(sign * limit), kind(sign * math.inf))
    assert code_of(model() | {name: edge.reshape(shape)}) == (RefusalCode.OUT_OF_RANGE, name)


def test_the_range_of_bfloat16_ends_at_r() -> None:
    edge = model()["brain"].copy()
    edge[7] = upper_half(np.array([-128.0]))[0]
    assert passes(model() | {"brain": edge})
    edge[7] += np.uint16(1)
    assert code_of(model() | {"brain": edge}) == (RefusalCode.OUT_OF_RANGE, "brain")


def test_the_detail_names_element_value_and_range() -> None:
    bad = SPREAD.astype("f4")
    bad[SMALL_ITEMS + 3] = 1000
    data = write(model() | {"single": bad}, bf16=BF16)
    finding = check_update(grid(), parse_layout(data, len(data)), data)
    assert finding is not None
    assert f"element {SMALL_ITEMS + 3}, is 1000.0" in finding.detail
    assert "-128.0 to 128.0" in finding.detail


def test_a_bool_is_0_or_1() -> None:
    data = bytearray(write(model(), bf16=BF16))
    layout = parse_layout(data, len(data))
    flags = next(spec for spec in layout.tensors if spec.name == "flags")
    data[flags.start] = 2
    finding = check_update(grid(), layout, data)
    assert finding is not None
    assert (finding.code, finding.tensor) == (RefusalCode.OUT_OF_RANGE, "flags")


def test_a_short_file_is_found() -> None:
    data = write(model(), bf16=BF16)
    layout = parse_layout(data, len(data))
    finding = check_update(grid(), layout, data[:-1])
    assert finding is not None
    assert finding.code is RefusalCode.UNREADABLE
    finding = check_model(layout, data[:-1], Numbers())
    assert finding is not None
    assert finding.code is RefusalCode.UNREADABLE


def test_weights() -> None:
    numbers = Numbers(weight_bits=3)
    assert check_weight(numbers, 1) is None
    assert check_weight(numbers, 8) is None
    for weight in (0, -1, 9, True, 10**400):
        finding = check_weight(numbers, weight)
        assert finding is not None
        assert finding.code is RefusalCode.WEIGHT_OUT_OF_RANGE


def test_a_first_model_is_finite_in_range_and_has_the_wide_tensors() -> None:
    def code(tensors: dict[str, Array], numbers: Numbers) -> RefusalCode | None:
        data = write(tensors)
        finding = check_model(parse_layout(data, len(data)), data, numbers)
        return None if finding is None else finding.code

    assert code({"a": SPREAD.astype("f4"), "b": np.empty(0), "n": np.array(1)}, Numbers()) is None
    assert code({"a": np.zeros(1)}, Numbers(wide=frozenset("b"))) is RefusalCode.TENSOR_UNKNOWN
    assert code({"a": np.array([math.nan])}, Numbers()) is RefusalCode.NOT_FINITE
    nearly = np.append(SPREAD, math.inf).astype("f4")
    assert code({"a": nearly}, Numbers()) is RefusalCode.NOT_FINITE
    assert code({"a": np.array([2.0**33])}, Numbers()) is RefusalCode.OUT_OF_RANGE


def test_the_range_never_reaches_infinity() -> None:
    base = write({"a": SPREAD.astype("f4") * np.float32(LARGEST["F32"])})
    layout = parse_layout(base, len(base))
    wild = Grid(layout, exponents_of(layout, base), Numbers())
    assert check_update(wild, layout, base) is None
    assert wild.plans[0].limit == LARGEST["F32"]
    bad = write({"a": np.append(SPREAD[1:], math.inf).astype("f4")})
    finding = check_update(wild, layout, bad)
    assert finding is not None
    assert finding.code is RefusalCode.NOT_FINITE


@pytest.mark.parametrize("name", ["n" * 512, "\x00" * 512, "\U0001f600" * 128])
def test_a_strangers_name_makes_no_detail_too_long_for_a_message(name: str) -> None:
    data = write(model() | {name: np.zeros(1)}, bf16=BF16)
    finding = check_update(grid(), parse_layout(data, len(data)), data)
    assert finding is not None
    assert finding.code is RefusalCode.TENSOR_UNKNOWN
    refused = RefusedUpdate(client="c" + "a" * 16, code=finding.code, detail=finding.detail)
    assert refused.detail.startswith("the base model has no tensor")
