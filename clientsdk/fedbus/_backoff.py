"""Pauses between tries: they double up to a limit, and chance spreads many clients apart."""

from collections.abc import Iterator
from random import SystemRandom

_chance = SystemRandom()


def pauses(min_s: float, max_s: float) -> Iterator[float]:
    """Give one pause after another, each between half of and all of a doubling length."""
    length = min_s
    while True:
        yield _chance.uniform(length / 2, length)
        length = min(2 * length, max_s)


def around(length_s: float) -> float:
    """Give a pause around this length, so that those who were told the same do not come together."""
    return _chance.uniform(0.5 * length_s, 1.5 * length_s)


def spread(length_s: float) -> float:
    """Give a pause of about this length: between 0.8 and 1.0 of it."""
    return _chance.uniform(0.8 * length_s, length_s)
