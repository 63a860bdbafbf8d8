"""From the exact mean, the base model and what the rule remembers to the next model, block by block.

Only operations that IEEE 754 fixes are used, in the order that each rule states, and every block is for
itself: the result does not depend on the size of the blocks, nor on the machine.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from fedbus_core.aggregation.exact import Accumulator
from fedbus_core.aggregation.grid import LARGEST, WIDE_TOP_BITS
from fedbus_core.aggregation.kernels import cast
from fedbus_core.aggregation.loading import Floats, Scratch, load
from fedbus_core.aggregation.rule_state import RuleState
from fedbus_core.aggregation.rules.rule import Block, Opening, Step, SumRule
from fedbus_core.aggregation.tensorfile import Array, Buffer, encode_header

STEP_ITEMS = 16_384
"""Elements in a block of a step: its six arrays stay in the second-level cache. It changes no bit."""


def step(
    rule: SumRule, total: Accumulator, base: Buffer, state: RuleState | None, opening: Opening
) -> Iterator[bytes]:
    """Give the bytes of the new model's canonical file, and change the state to what follows.

    Tensors that are not of a float type are taken as the mean has them. A value beyond the float type,
    or beyond 2^32, stays at that bound. Raises `ValueError` for an empty sum.
    """
    assert rule.open is not None, "a rule without steps needs none of this"
    total.settle()
    stepped = rule.open(opening)
    before = total.columns(base)
    memory = _Memory(len(rule.moments))
    yield encode_header(total.grid.layout.fields)
    for place, plan in enumerate(total.grid.plans):
        column = before[plan.spec.name]
        if plan.spec.dtype in LARGEST:
            yield from _tensor(stepped, total, place, column, state, memory)
        else:
            yield from total.mean_tensor(place, column)
    if state is not None:
        state.remember(stepped.factors)


def _tensor(
    stepped: Step,
    total: Accumulator,
    place: int,
    base: Array,
    state: RuleState | None,
    memory: "_Memory",
) -> Iterator[bytes]:
    spec = total.grid.plans[place].spec
    for start in range(0, spec.items, STEP_ITEMS):
        stop = min(start + STEP_ITEMS, spec.items)
        part = memory.block(spec.name, stop - start)
        np.copyto(part.values, total.mean_block(place, start, stop))
        np.copyto(part.base, load(base[start:stop], spec.dtype, memory.scratch))
        if state is not None:
            state.moments(place, start, stop, part.moments)
        stepped.block(part)
        if state is not None:
            state.keep(place, start, stop, part.moments)
        yield cast(bounded(part.values, spec.dtype), spec.dtype, memory.scratch)


def bounded(values: Floats, dtype: str) -> Floats:
    """Keep finite values inside what a model may hold, in place; a zero becomes +0.0."""
    limit = np.float64(min(2.0**WIDE_TOP_BITS, LARGEST[dtype]))
    np.minimum(values, limit, out=values)
    np.maximum(values, -limit, out=values)
    np.add(values, np.float64(0.0), out=values)
    return values


def _floats() -> Floats:
    return np.empty(STEP_ITEMS, np.float64)


@dataclass(slots=True)
class _Memory:
    """Memory for one block, made once."""

    count: int
    base: Floats = field(default_factory=_floats)
    values: Floats = field(default_factory=_floats)
    spare: Floats = field(default_factory=_floats)
    moments: tuple[Floats, ...] = ()
    scratch: Scratch = field(default_factory=Scratch)

    def __post_init__(self) -> None:
        self.moments = tuple(_floats() for _ in range(self.count))

    def block(self, name: str, items: int) -> Block:
        moments = tuple(one[:items] for one in self.moments)
        return Block(name, self.base[:items], self.values[:items], moments, self.spare[:items])
