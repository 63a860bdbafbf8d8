"""Laws of the fold: any order, any grouping, any tree, and taking off again give the same bytes."""

import itertools
from collections.abc import Sequence

import numpy as np
from fedbus_core.aggregation.checks import check_update
from fedbus_core.aggregation.exact import Accumulator, Grid, Numbers, exponents_of
from fedbus_core.aggregation.grid import SMALL_ITEMS
from fedbus_core.aggregation.tensorfile import Array, parse_layout, write
from hypothesis import given, settings
from hypothesis import strategies as st

BF16 = ("brain", "brain_small")
Weighted = tuple[bytes, int]


def make_file(seed: int) -> bytes:
    """Make a model with a tensor for every path; few distinct values, so that ties are frequent."""
    random = np.random.default_rng(seed)

    def real(items: int, spread: float) -> Array:
        drawn = random.choice(np.append(random.normal(0, spread, 40), [0.0, -0.0]), 400)
        return np.resize(drawn, items)

    def brain(items: int) -> Array:
        return (real(items, 1).astype("<f4").view("<u4") >> np.uint32(16)).astype("<u2")

    return write(
        {
            "brain": brain(SMALL_ITEMS),
            "brain_small": brain(50),
            "counter": random.integers(0, 4, 2),
            "double": real(20, 1e3),
            "empty": np.empty((3, 0), "f4"),
            "flags": random.integers(0, 2, 30).astype(np.bool_),
            "half": real(SMALL_ITEMS + 9, 0.1).astype("f2"),
            "single": real(SMALL_ITEMS + 9, 0.05).astype("f4"),
            "small": real(7, 1e-6).astype("f4"),
        },
        bf16=BF16,
    )


BASE = make_file(0)
LAYOUT = parse_layout(BASE, len(BASE))
GRID = Grid(LAYOUT, exponents_of(LAYOUT, BASE), Numbers(cohort_bits=4))
FILES = [make_file(seed) for seed in range(1, 9)]

UPDATES = st.lists(
    st.tuples(st.sampled_from(FILES), st.sampled_from([1, 2, 3, 999_983, 2**20])),
    min_size=1,
    max_size=8,
)


def sum_of(updates: Sequence[Weighted]) -> Accumulator:
    total = Accumulator(GRID)
    for update, weight in updates:
        total.add(update, weight)
    return total


def result(total: Accumulator) -> tuple[bytes, bytes]:
    return total.to_bytes(), b"".join(total.mean(BASE))


def test_the_examples_are_acceptable() -> None:
    assert all(check_update(GRID, LAYOUT, update) is None for update in FILES)


@settings(max_examples=25, deadline=None)
@given(UPDATES, st.data())
def test_any_order(updates: list[Weighted], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(updates))
    assert result(sum_of(shuffled)) == result(sum_of(updates))


@settings(max_examples=25, deadline=None)
@given(UPDATES, st.data())
def test_any_batches_and_any_tree_of_partials(updates: list[Weighted], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(updates)))) | {0, len(updates)})
    partials = [Accumulator(GRID)]
    for start, stop in itertools.pairwise(cuts):
        batch = Accumulator(GRID)
        batch.add_all(updates[start:stop])
        partials.append(batch)
    while len(partials) > 1:
        one = partials.pop(data.draw(st.integers(0, len(partials) - 1)))
        other = partials.pop(data.draw(st.integers(0, len(partials) - 1)))
        if data.draw(st.booleans()):
            other = Accumulator.from_bytes(GRID, other.to_bytes())
        one.merge(other)
        partials.append(one)
    assert result(partials[0]) == result(sum_of(updates))


@settings(max_examples=25, deadline=None)
@given(UPDATES, UPDATES, st.data())
def test_what_is_taken_off_leaves_no_trace(
    kept: list[Weighted], dropped: list[Weighted], data: st.DataObject
) -> None:
    total = Accumulator(GRID)
    for update, weight in data.draw(st.permutations(kept + dropped)):
        total.add(update, weight)
    if data.draw(st.booleans()):
        total = Accumulator.from_bytes(GRID, total.to_bytes())
    for update, weight in data.draw(st.permutations(dropped)):
        total.subtract(update, weight)
    assert result(total) == result(sum_of(kept))


@settings(max_examples=10, deadline=None)
@given(UPDATES)
def test_asking_changes_nothing(updates: list[Weighted]) -> None:
    total = Accumulator(GRID)
    for update, weight in updates:
        total.add(update, weight)
        result(total)
    assert result(total) == result(sum_of(updates))
