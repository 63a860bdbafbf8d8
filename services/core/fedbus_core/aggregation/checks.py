"""What an update must be before it may be folded: the base model's layout, finite, within range.

Checks return a finding instead of raising, whatever the bytes; an update without a finding cannot
make a sum overflow or a model hold NaN.
"""

import math
from dataclasses import dataclass

import numpy as np
from fedbus_schemas.refusals import RefusalCode

from fedbus_core.aggregation.grid import LARGEST as FLOATS
from fedbus_core.aggregation.grid import Grid, Kind, Numbers, Plan, bounds, exponents_of
from fedbus_core.aggregation.loading import BLOCK_ITEMS, Scratch, load
from fedbus_core.aggregation.tensorfile import (
    DETAIL_CHARS_MAX,
    Array,
    Buffer,
    Layout,
    TensorSpec,
    flat,
)

INTEGER_BYTES_MAX = 128 * 1024
"""The most bytes of integer tensors in a model: a full cohort's distinct values of them fit in a sum."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Why an update is refused: the code, the tensor ("" if no single one), and what was wrong.

    Names and shapes in `detail` are a stranger's: it is cut, so that it fits into any message.
    """

    code: RefusalCode
    tensor: str
    detail: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "detail", self.detail[:DETAIL_CHARS_MAX])


def check_update(grid: Grid, layout: Layout, buffer: Buffer) -> Finding | None:
    """Check an update, a whole tensor file in `buffer` with its own `layout`, against the base's grid.

    Finds, in this order: missing and unknown tensors, element types, shapes, then tensor by tensor in
    name order the first element that is not finite or leaves the range
    -R..R with R = min(2^(e + growth_bits), the type's largest value), or 2^32 for wide tensors.
    """
    finding = check_layout(grid.layout, layout)
    if finding is not None:
        return finding
    if memoryview(buffer).nbytes < layout.size:
        return Finding(RefusalCode.UNREADABLE, "", f"the file is shorter than {layout.size} bytes")
    scratch = Scratch()
    for plan, spec in zip(grid.plans, layout.tensors, strict=True):
        finding = _check_values(plan, spec, buffer, scratch)
        if finding is not None:
            return finding
    return None


def check_layout(base: Layout, layout: Layout) -> Finding | None:
    """Compare an update's names, element types and shapes with the base model's."""
    ours = {spec.name: spec for spec in base.tensors}
    theirs = {spec.name: spec for spec in layout.tensors}
    for name in sorted(ours.keys() - theirs.keys()):
        return Finding(RefusalCode.TENSOR_MISSING, name, f"tensor {name!r} is missing")
    for name in sorted(theirs.keys() - ours.keys()):
        return Finding(RefusalCode.TENSOR_UNKNOWN, name, f"the base model has no tensor {name!r}")
    for name, spec in ours.items():
        found = theirs[name]
        if found.dtype != spec.dtype:
            detail = f"tensor {name!r} is {found.dtype}, in the base model {spec.dtype}"
            return Finding(RefusalCode.DTYPE_MISMATCH, name, detail)
        if found.shape != spec.shape:
            detail = f"tensor {name!r} has shape {found.shape}, in the base model {spec.shape}"
            return Finding(RefusalCode.SHAPE_MISMATCH, name, detail)
    return None


def check_weight(numbers: Numbers, weight: int) -> Finding | None:
    """Check that an update's weight is a whole number 1..2^weight_bits."""
    if type(weight) is int and 1 <= weight <= numbers.weight_max:
        return None
    detail = f"the weight {str(weight)[:40]} is not a whole number 1..{numbers.weight_max}"
    return Finding(RefusalCode.WEIGHT_OUT_OF_RANGE, "", detail)


def check_model(layout: Layout, buffer: Buffer, numbers: Numbers) -> Finding | None:
    """Check a session's first model: finite, within the wide range, and every `wide` name in it.

    A model without a finding has exponents and would itself be an acceptable update.
    """
    names = {spec.name for spec in layout.tensors}
    for name in sorted(numbers.wide - names):
        return Finding(RefusalCode.TENSOR_UNKNOWN, name, f"wide names {name!r}, not in the model")
    if memoryview(buffer).nbytes < layout.size:
        return Finding(RefusalCode.UNREADABLE, "", f"the file is shorter than {layout.size} bytes")
    integers = [one for one in layout.tensors if one.dtype not in FLOATS and one.dtype != "BOOL"]
    size = sum(spec.nbytes for spec in integers)
    if size > INTEGER_BYTES_MAX:
        detail = (
            f"{size} bytes of integer tensors, at most {INTEGER_BYTES_MAX}: store them as floats"
        )
        return Finding(RefusalCode.TOO_LARGE, integers[0].name, detail)
    scratch = Scratch()
    for spec in layout.tensors:
        if spec.dtype not in FLOATS or not spec.items:
            continue
        if not all(map(math.isfinite, bounds(spec, buffer, scratch))):
            detail = f"tensor {spec.name!r} holds NaN or infinity"
            return Finding(RefusalCode.NOT_FINITE, spec.name, detail)
    return check_update(Grid(layout, exponents_of(layout, buffer), numbers), layout, buffer)


def _check_values(plan: Plan, spec: TensorSpec, buffer: Buffer, scratch: Scratch) -> Finding | None:
    if plan.kind is Kind.COUNTER:
        return None
    values = flat(spec, buffer)
    for start in range(0, spec.items, BLOCK_ITEMS):
        block = values[start : start + BLOCK_ITEMS]
        if plan.kind is Kind.BOOL:
            if int(block.view(np.uint8).max()) > 1:
                detail = f"tensor {spec.name!r} is BOOL and holds a byte other than 0 and 1"
                return Finding(RefusalCode.OUT_OF_RANGE, spec.name, detail)
        elif not _within(block, spec.dtype, plan.limit):
            return _first_outside(block, start, plan, scratch)
    return None


def _within(block: Array, dtype: str, limit: float) -> bool:
    """Whether every element is in -limit..limit; a comparison with NaN is false, infinity is beyond."""
    with np.errstate(invalid="ignore"):
        if dtype in ("F64", "F32"):
            floats = block.view(np.dtype("<f8" if dtype == "F64" else "<f4"))
            return -limit <= float(floats.min()) and float(floats.max()) <= limit
        # Without the sign, the bits of 16-bit floats are ordered as their magnitudes are; NaN is last.
        largest = (block.view(np.dtype("<u2")) & np.uint16(0x7FFF)).max()
        if dtype == "F16":
            return float(largest.view(np.float16)) <= limit
        return float((np.uint32(largest) << np.uint32(16)).view(np.float32)) <= limit


def _first_outside(block: Array, start: int, plan: Plan, scratch: Scratch) -> Finding:
    with np.errstate(invalid="ignore"):
        values = load(block, plan.spec.dtype, scratch)
        inside = (values >= -plan.limit) & (values <= plan.limit)
    index = int(inside.argmin())
    value = float(values[index])
    name = plan.spec.name
    where = f"tensor {name!r}, element {start + index}, is {value!r}"
    if not math.isfinite(value):
        return Finding(RefusalCode.NOT_FINITE, name, where)
    limit = f"{where}; the base model allows {-plan.limit!r} to {plan.limit!r}"
    return Finding(RefusalCode.OUT_OF_RANGE, name, limit)
