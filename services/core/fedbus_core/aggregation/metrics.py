"""The clients' metrics of one round, as one number each: exact sums, so order does not matter."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

from fedbus_schemas.ids import SETTINGS_MAX

_SAFE = 2.0**1000
"""As long as all magnitudes add up to less, no step of a sum can overflow, in whatever order."""


def weighted_metrics(items: Iterable[tuple[int, Mapping[str, float]]]) -> dict[str, float]:
    """Give each metric's mean over those who report it, weighted by their numbers of examples.

    `items` are (weight, finite metrics by name); names come out sorted. Of more than `SETTINGS_MAX`
    names the ones that most updates report are kept, ties by name: a client with many names of its own
    cannot push out the others', nor make a result that is too large to send.
    """
    given = [(weight, metrics) for weight, metrics in items if weight > 0]
    reported = Counter(name for _, metrics in given for name in metrics)
    kept = sorted(reported, key=lambda name: (-reported[name], name))[:SETTINGS_MAX]
    return {
        name: _mean([(weight, metrics[name]) for weight, metrics in given if name in metrics])
        for name in sorted(kept)
    }


def _mean(items: Sequence[tuple[int, float]]) -> float:
    total = sum(weight for weight, _ in items)
    # A bound that does not depend on the order decides how to add. `fsum` is correctly rounded.
    if max(abs(value) for _, value in items) < _SAFE / total:
        return math.fsum(weight * value for weight, value in items) / total
    return float(sum(weight * Fraction(value) for weight, value in items) / total)
