"""Reads a scenario: a text file with a workload, the faults and noise that run beside it, and the checks.

    # What it is about, in a sentence.
    workload
      clients 3
      rounds 2
    faults
      within 60                       the port calls of a process among which faults fall
      crash controller 1..2 for 0..3  how often, and how long it stays away
    noise
      delay 0.01
    check
      ends 600

A number may be a range `low..high`, from which the seed chooses. `docs/simulation.md` has all words.
"""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).parent / "scenarios"

SECTIONS = ("workload", "faults", "noise", "check")
WORKLOAD = {
    "sessions": "1",
    "clients": "3",
    "liars": "0",
    "late": "0",
    "sleepers": "0",
    "rounds": "2",
    "target": "all",
    "minimum": "all",
    "deadline": "60",
    "attempts": "3",
    "batch": "32",
    "inline": "65536",
    "compute": "0.05..0.5",
    "durable": "1",
    "validate": "0",
}
NOISE = {
    "delay": "0",
    "loss": "0",
    "duplicate": "0",
    "hold": "0",
    "deaf": "0",
    "until": "20",
}
CHECKS = {"ends": 1, "same_model": 0, "fails": 0}
"""Each check's number of arguments."""
FAULTS = {
    "crash": ("controller", "combiner", "service", "client"),
    "pause": ("controller", "combiner", "service", "client"),
    "cut_bus": ("controller", "combiner", "service", "client"),
    "cut_redis": ("controller", "combiner", "service"),
    "cut_store": ("controller", "combiner", "service", "client"),
    "lose": ("bus", "redis", "store"),
    "flush": ("redis",),
    "restore": ("redis",),
    "slow": ("bus", "redis", "store"),
    "forget": ("bus",),
    "halt": ("session",),
}
"""Each kind of fault, and whom it may meet."""
TIMELESS = ("flush", "forget")


class BadScenario(ValueError):
    """A scenario cannot be read; the text says where and what to write."""


@dataclass(frozen=True, slots=True)
class Range:
    """A number, or from where to where the seed chooses one."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:g}" if self.low == self.high else f"{self.low:g}..{self.high:g}"


@dataclass(frozen=True, slots=True)
class FaultLine:
    """A kind of fault: how often it happens to whom, and for how long."""

    kind: str
    target: str
    count: Range
    for_s: Range


@dataclass(slots=True)
class Scenario:
    """A scenario as it was written."""

    name: str
    about: str = ""
    workload: dict[str, Range | str] = field(default_factory=dict)
    noise: dict[str, Range] = field(default_factory=dict)
    faults: list[FaultLine] = field(default_factory=list)
    within: int = 60
    ends_s: float = 600.0
    same_model: bool = False
    fails: bool = False


def load(name: str) -> Scenario:
    """Read a scenario of the folder."""
    path = FOLDER / f"{name}.txt"
    if not path.exists():
        known = names()
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise BadScenario(f"there is no scenario {name}; {hint}")
    return parse(name, path.read_text())


def names() -> list[str]:
    """List the scenarios of the folder."""
    return sorted(path.stem for path in FOLDER.glob("*.txt"))


def parse(name: str, text: str) -> Scenario:
    """Read a scenario's text. Raises `BadScenario`."""
    scenario = Scenario(name)
    scenario.workload = {key: _value(key, word, "") for key, word in WORKLOAD.items()}
    scenario.noise = {key: _range(word, "") for key, word in NOISE.items()}
    section = ""
    for place, words, is_indented in _lines(name, text):
        if not is_indented:
            section = _known(words[0], SECTIONS, place, "section")
            if len(words) > 1:
                raise BadScenario(f"{place}: {words[0]!r} begins a section; put the rest below it")
        elif not section:
            raise BadScenario(f"{place}: begin a section first: {', '.join(SECTIONS)}")
        else:
            _take(scenario, section, words, place)
    scenario.about = text.partition("\n")[0].lstrip("# ").strip()
    return scenario


def _lines(name: str, text: str) -> Iterator[tuple[str, list[str], bool]]:
    for number, line in enumerate(text.splitlines(), start=1):
        content = line.partition("#")[0].rstrip()
        if content:
            yield f"{name}.txt line {number}", content.split(), content[0].isspace()


def _take(scenario: Scenario, section: str, words: list[str], place: str) -> None:
    match section:
        case "workload":
            key = _known(words[0], WORKLOAD, place, "word of the workload")
            scenario.workload[key] = _value(key, _only(words, place), place)
        case "noise":
            key = _known(words[0], NOISE, place, "kind of noise")
            scenario.noise[key] = _range(_only(words, place), place)
        case "check":
            _check(scenario, words, place)
        case _:
            _fault(scenario, words, place)


def _check(scenario: Scenario, words: list[str], place: str) -> None:
    key = _known(words[0], CHECKS, place, "check")
    if len(words) != 1 + CHECKS[key]:
        raise BadScenario(f"{place}: {key} takes {CHECKS[key]} numbers")
    if key == "ends":
        scenario.ends_s = _range(words[1], place).high
    else:
        setattr(scenario, key, True)


def _fault(scenario: Scenario, words: list[str], place: str) -> None:
    if words[0] == "within":
        scenario.within = int(_range(_only(words, place), place).high)
        return
    kind = _known(words[0], FAULTS, place, "kind of fault")
    form = f"{kind} {'|'.join(FAULTS[kind])} <how often>"
    form += "" if kind in TIMELESS else " for <seconds>"
    if len(words) != (3 if kind in TIMELESS else 5) or (len(words) == 5 and words[3] != "for"):
        raise BadScenario(f"{place}: write {form}")
    target = _known(words[1], FAULTS[kind], place, f"target of {kind}")
    for_s = _range(words[4], place) if len(words) == 5 else Range(0, 0)
    scenario.faults.append(FaultLine(kind, target, _range(words[2], place), for_s))


def _known(word: str, known: object, place: str, what: str) -> str:
    assert isinstance(known, tuple | dict)
    if word in known:
        return word
    near = difflib.get_close_matches(word, list(known), n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
    raise BadScenario(f"{place}: {word!r} is no {what}; {hint}")


def _only(words: list[str], place: str) -> str:
    if len(words) != 2:
        raise BadScenario(f"{place}: write {words[0]} and one value")
    return words[1]


def _value(key: str, word: str, place: str) -> Range | str:
    return word if key in ("target", "minimum") and word == "all" else _range(word, place)


def _range(word: str, place: str) -> Range:
    low, dots, high = word.partition("..")
    try:
        found = Range(float(low), float(high if dots else low))
    except ValueError:
        raise BadScenario(f"{place}: {word!r} is no number and no range low..high") from None
    if found.low > found.high or found.low < 0:
        raise BadScenario(f"{place}: {word!r} should go from a lower number to a higher one")
    return found
