"""The partial: an accumulator as a canonical tensor file, to be stored, hashed and merged elsewhere.

Equal sets of updates give equal bytes. For the tensor at place i of the layout there are `i.sum0`
(and `i.sum1` if it is wide), or `i.rows` and `i.times` for an integer tensor's distinct values;
`count` and `weight` are K and N. Reading accepts exactly what writing gives, and nothing that could
make a later sum overflow.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import NoReturn

import numpy as np
from fedbus_schemas.models import TENSORS_MAX
from fedbus_schemas.refusals import RefusalCode

from fedbus_core.aggregation.counters import Counters
from fedbus_core.aggregation.grid import Grid, Kind, Plan
from fedbus_core.aggregation.kernels import LIMBS, Sums
from fedbus_core.aggregation.tensorfile import (
    Array,
    Buffer,
    Field,
    TensorFileError,
    TensorSpec,
    encode_header,
    flat,
    parse_layout,
)
from fedbus_core.aggregation.tensorfile import parts as file_parts

PARTIAL_TENSORS_MAX = 2 * TENSORS_MAX + 2


def parts(
    grid: Grid, all_sums: Sequence[Sums], counters: Counters, count: int, weight: int
) -> list[Buffer]:
    """Encode a partial from settled sums as buffers, sharing their memory."""
    assert 0 <= weight < 2**63, "Numbers keeps the sum of weights far below 63 bits"
    tensors: dict[str, Array] = {
        "count": np.array(count, np.int64),
        "weight": np.array(weight, np.int64),
    }
    for index, (plan, sums) in enumerate(zip(grid.plans, all_sums, strict=True)):
        for limb, values in enumerate(sums):
            tensors[_sum_name(index, limb)] = values
        if plan.kind is Kind.COUNTER:
            rows = counters.rows(plan.spec.name)
            raw = np.array(bytearray(b"".join(value for value, _ in rows)), np.uint8)
            tensors[_rows_name(index)] = raw.reshape(len(rows), plan.spec.nbytes)
            tensors[_times_name(index)] = np.array([times for _, times in rows], np.int64)
    return file_parts(tensors)


def read_into(
    grid: Grid, all_sums: Sequence[Sums], counters: Counters, data: Buffer
) -> tuple[int, int]:
    """Read a partial into empty sums and counters; returns count and weight.

    Raises `TensorFileError` for bytes that are not a partial of this grid.
    """
    layout = parse_layout(data, len(data), tensors_max=PARTIAL_TENSORS_MAX)
    specs = {spec.name: spec for spec in layout.tensors}
    header = encode_header(_fields(grid, specs))
    if bytes(data[: len(header)]) != header:
        _refuse("the header is not that of a partial of this grid")
    count, weight = (
        int(flat(specs[name], data).astype(np.int64)[0]) for name in ("count", "weight")
    )
    numbers = grid.numbers
    if not (0 <= count <= numbers.count_max and count <= weight <= count * numbers.weight_max):
        _refuse(f"{count} updates of weight {weight} are outside the session's limits")
    for index, (plan, sums) in enumerate(zip(grid.plans, all_sums, strict=True)):
        low, high = (0, weight) if plan.kind is Kind.BOOL else _bounds(plan, grid, count)
        for limb, target in enumerate(sums):
            np.copyto(target, flat(specs[_sum_name(index, limb)], data), casting="same_kind")
            if target.size and not low <= int(target.min()) <= int(target.max()) <= high:
                _refuse(f"a sum of tensor {plan.spec.name!r} is larger than {count} updates allow")
        if plan.kind is Kind.COUNTER:
            counters.load(plan.spec.name, _rows(index, plan, specs, data, count))
    return count, weight


def _bounds(plan: Plan, grid: Grid, count: int) -> tuple[int, int]:
    most = count << grid.numbers.term_bits
    return -most, most


def _fields(grid: Grid, specs: Mapping[str, TensorSpec]) -> list[Field]:
    """List what a partial of this grid must hold; only the numbers of rows are taken from the file."""
    fields: list[Field] = [("count", "I64", ()), ("weight", "I64", ())]
    for index, plan in enumerate(grid.plans):
        for limb in range(LIMBS[plan.kind]):
            fields.append((_sum_name(index, limb), "I64", (plan.spec.items,)))
        if plan.kind is Kind.COUNTER:
            rows = specs.get(_rows_name(index))
            if rows is None or len(rows.shape) != 2:
                _refuse(f"the values of tensor {plan.spec.name!r} are missing")
            fields.append((_rows_name(index), "U8", (rows.shape[0], plan.spec.nbytes)))
            fields.append((_times_name(index), "I64", (rows.shape[0],)))
    return fields


def _rows(
    index: int, plan: Plan, specs: Mapping[str, TensorSpec], data: Buffer, count: int
) -> list[tuple[bytes, int]]:
    length = plan.spec.nbytes
    times = [int(value) for value in flat(specs[_times_name(index)], data).astype(np.int64)]
    raw = flat(specs[_rows_name(index)], data).tobytes()
    rows = [raw[i * length : (i + 1) * length] for i in range(len(times))]
    if any(value < 1 for value in times) or sum(times) != count:
        _refuse(f"the values of tensor {plan.spec.name!r} do not count {count} updates")
    if any(first >= second for first, second in itertools.pairwise(rows)):
        _refuse(f"the values of tensor {plan.spec.name!r} are not sorted")
    return list(zip(rows, times, strict=True))


def _sum_name(index: int, limb: int) -> str:
    return f"{index:05d}.sum{limb}"


def _rows_name(index: int) -> str:
    return f"{index:05d}.rows"


def _times_name(index: int) -> str:
    return f"{index:05d}.times"


def _refuse(detail: str) -> NoReturn:
    raise TensorFileError(RefusalCode.UNREADABLE, f"not a partial: {detail}")
