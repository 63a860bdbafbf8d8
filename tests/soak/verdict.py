"""What may grow and what may not, as a table: each measure has one rule, and a measure without one fails.

empty: work, dead letters, what waits in consumers, partial sums, pieces, counts. Gone with its round.
level: memory of services, within one life of a process. Independent of how much was done.
flat: deadlines in INBOX, presence, places for transfers (a lost word leaves one until its lease ends). A few.
steady: logs, updates, heads, blobs of models, updates and sets, records, lists, mail, telemetry, and with them
the servers' memory for what they index. Kept until a session is archived or a lifetime ends: as much for
each round as for the one before.
free: space on disk, notes. Servers write and tidy up in steps of their own; told, not judged.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.soak.measures import Sample

WARM = 0.3
"""The part of the samples that belongs to the warming up."""
MEMORY_MORE_MAX = 1.15
MEMORY_MORE_MAX_MB = 16.0
STEADY_APART_MAX = 0.2
STEADY_SLACK = 0.6
"""What a stretch may be apart from another by where a sample happened to fall, in units a round."""
FLAT_MAX = 16
SAMPLES_MIN = 6

EMPTY = (
    "stream WORK",
    "stream DEAD",
    "consumer ",
    "blobs partials",
    "blobs pieces",
    "redis stored",
    "redis fresh",
    "redis partials",
)
MEMORY = ("memory controller", "memory combiner", "memory api")
FLAT = ("stream INBOX (messages)", "redis online", "redis transfers")
FREE = ("disk ", "stream NOTES", "stream INBOX (KB)")


@dataclass(frozen=True, slots=True)
class Finding:
    """One measure: at the start, in the middle, at the end; its growth a round in both halves; the verdict."""

    name: str
    rule: str
    values: tuple[float, float, float]
    per_round: tuple[float, float]
    is_fine: bool


def judge(samples: Sequence[Sample]) -> list[Finding]:
    """Judge all measures."""
    assert len(samples) >= SAMPLES_MIN, f"{len(samples)} samples say nothing; soak for longer"
    return [_judge(name, samples) for name in sorted(samples[-1].values)]


def _judge(name: str, samples: Sequence[Sample]) -> Finding:
    warm = samples[int(len(samples) * WARM) :]
    points = (warm[0], warm[len(warm) // 2], warm[-1])
    first, middle, last = (one.values.get(name, 0.0) for one in points)
    early = (middle - first) / max(1, points[1].rounds - points[0].rounds)
    late = (last - middle) / max(1, points[2].rounds - points[1].rounds)
    for rule, names, holds in _RULES:
        if name.startswith(names):
            fine = holds(name, warm, (early, late))
            return Finding(name, rule, (first, middle, last), (early, late), fine)
    raise AssertionError(f"no rule for {name}")


def _is_empty(name: str, warm: Sequence[Sample], _: tuple[float, float]) -> bool:
    return all(one.values.get(name, 0.0) == 0 for one in warm)


def _is_flat(name: str, warm: Sequence[Sample], _: tuple[float, float]) -> bool:
    return max(one.values.get(name, 0.0) for one in warm) <= FLAT_MAX


def _is_level(name: str, warm: Sequence[Sample], _: tuple[float, float]) -> bool:
    """Within one life of a process, its end is not far above its first third."""
    process = name.split()[1]
    life = [one.values[name] for one in warm if one.pids.get(process) == warm[-1].pids.get(process)]
    before = max(life[: max(1, len(life) // 3)])
    return life[-1] <= max(before * MEMORY_MORE_MAX, before + MEMORY_MORE_MAX_MB)


def _is_steady(name: str, warm: Sequence[Sample], per_round: tuple[float, float]) -> bool:
    early, late = per_round
    return late <= max(early, 0.0) * (1 + STEADY_APART_MAX) + STEADY_SLACK


_Rule = Callable[[str, Sequence[Sample], tuple[float, float]], bool]
_RULES: tuple[tuple[str, tuple[str, ...], _Rule], ...] = (
    ("empty", EMPTY, _is_empty),
    ("level", MEMORY, _is_level),
    ("flat", FLAT, _is_flat),
    ("free", FREE, lambda *_: True),
    ("steady", ("stream ", "blobs ", "redis ", "memory "), _is_steady),
)


def table(findings: Sequence[Finding]) -> str:
    """Write the findings for people."""
    head = f"{'measure':34} {'rule':7} {'warm':>9} {'middle':>9} {'end':>9} {'a round':>8} {'later':>8}"
    lines = [head]
    for one in findings:
        first, middle, last = one.values
        early, late = one.per_round
        lines.append(
            f"{one.name:34} {one.rule:7} {first:9.1f} {middle:9.1f} {last:9.1f} "
            f"{early:8.2f} {late:8.2f}{'' if one.is_fine else '  <-- GROWS'}"
        )
    return "\n".join(lines)
