"""What a rule remembers from round to round, as a canonical tensor file.

For the float tensor at place i of the layout there is `i.moment0` (and `i.moment1`, …), in float32, or in
float64 for a tensor of that type; `factors` holds the rule's own numbers. Equal histories give equal bytes.
"""

import numpy as np

from fedbus_core.aggregation.grid import LARGEST
from fedbus_core.aggregation.loading import Floats
from fedbus_core.aggregation.rules.rule import SumRule
from fedbus_core.aggregation.tensorfile import (
    DTYPES,
    Array,
    Field,
    Layout,
    encode_header,
    parse_layout,
)

FACTORS = "factors"
STATE_TENSORS_MAX = 2**16


class RuleState:
    """A rule's memory beside one model: the file's bytes, which are changed in place."""

    __slots__ = ("_views", "data", "is_first")

    def __init__(self, rule: SumRule, layout: Layout, before: bytearray | None) -> None:
        """`before` is the file that the last completed round left, None before the first one.

        It is changed. Raises `ValueError` when it is no memory of this rule beside this layout.
        """
        fields = tuple(sorted(_fields(rule, layout)))
        header = encode_header(fields)
        size = len(header) + sum(_bytes(field) for field in fields)
        self.is_first = before is None
        self.data = bytearray(size) if before is None else before
        if before is None:
            self.data[: len(header)] = header
        elif len(before) != size or before[: len(header)] != header:
            raise ValueError(f"the state is not what {rule.id} remembers of such a model")
        found = parse_layout(self.data, size, tensors_max=STATE_TENSORS_MAX)
        self._views: dict[str, Array] = {
            spec.name: np.frombuffer(
                self.data, DTYPES[spec.dtype], count=spec.items, offset=spec.start
            )
            for spec in found.tensors
            if spec.items
        }
        if before is None:
            for name, view in self._views.items():
                view[...] = 0.0 if name == FACTORS else rule.moments[int(name[-1])]

    @property
    def factors(self) -> tuple[float, ...] | None:
        """The rule's own numbers; None before the first round."""
        if self.is_first:
            return None
        return tuple(float(one) for one in self._views.get(FACTORS, ()))

    def remember(self, factors: tuple[float, ...]) -> None:
        """Replace the rule's own numbers."""
        if factors:
            self._views[FACTORS][...] = factors

    def moments(self, place: int, start: int, stop: int, out: tuple[Floats, ...]) -> None:
        """Read a part of what stands beside the tensor at this place."""
        for number, values in enumerate(out):
            np.copyto(values, self._views[_name(place, number)][start:stop])

    def keep(self, place: int, start: int, stop: int, moments: tuple[Floats, ...]) -> None:
        """Write a part of what stands beside the tensor at this place, rounded once."""
        with np.errstate(under="ignore"):
            for number, values in enumerate(moments):
                view = self._views[_name(place, number)][start:stop]
                np.copyto(view, values, casting="same_kind")


def _fields(rule: SumRule, layout: Layout) -> list[Field]:
    fields: list[Field] = [
        (_name(place, number), "F64" if spec.dtype == "F64" else "F32", spec.shape)
        for place, spec in enumerate(layout.tensors)
        if spec.dtype in LARGEST
        for number in range(len(rule.moments))
    ]
    return [*fields, (FACTORS, "F64", (rule.factors,))] if rule.factors else fields


def _bytes(field: Field) -> int:
    items = 1
    for side in field[2]:
        items *= side
    return items * DTYPES[field[1]].itemsize


def _name(place: int, number: int) -> str:
    return f"{place:05d}.moment{number}"
