"""The clients' metrics of one round, as one number each: exact sums, so order does not matter."""

import math
from collections.abc import Iterable, Mapping


def weighted_metrics(items: Iterable[tuple[int, Mapping[str, float]]]) -> dict[str, float]:
    """Give each metric's mean over those who report it, weighted by their numbers of examples.

    `items` are (weight, metrics by name); names come out sorted. The sums are `math.fsum`s: correctly
    rounded, hence the same in any order. A metric whose mean is not finite is left out.
    """
    terms: dict[str, list[float]] = {}
    weights: dict[str, int] = {}
    for weight, metrics in items:
        for name, value in metrics.items():
            terms.setdefault(name, []).append(weight * value)
            weights[name] = weights.get(name, 0) + weight
    means: dict[str, float] = {}
    for name in sorted(terms):
        try:
            mean = math.fsum(terms[name]) / weights[name]
        except (OverflowError, ValueError, ZeroDivisionError):
            continue
        if math.isfinite(mean):
            means[name] = mean
    return means
