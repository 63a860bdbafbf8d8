"""Which files stay out of a package: the rules of `.fedbusignore`, `.fednignore` and `.scaleoutignore`.

The rules are those of `.gitignore`: `#` begins a comment, `!` takes a file in again, a `/` at the end means
folders only, one elsewhere ties the pattern to the folder of the file, `**` stands for any folders. The last
rule that fits decides. Source: gitignore(5), without its rule that nothing below an ignored folder comes back.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

OURS = ".fedbusignore"
FILES = (".fednignore", ".scaleoutignore", OURS)
"""Read in this order, so that ours has the last word."""
ALWAYS = (".git/", "__pycache__/", "*.pyc", ".venv/", ".ipynb_checkpoints/", ".DS_Store")
"""What is never part of a package unless a rule takes it in."""
FILE_BYTES_MAX = 64 * 1024


@dataclass(frozen=True, slots=True)
class Rule:
    """One pattern."""

    pattern: re.Pattern[str]
    takes_in: bool
    folders_only: bool


def read_rules(folder: Path) -> tuple[Rule, ...]:
    """Read a package folder's ignore files, after the rules that always hold."""
    lines: list[str] = [*ALWAYS]
    for name in FILES:
        path = folder / name
        if path.is_file():
            with path.open("rb") as file:
                lines += file.read(FILE_BYTES_MAX).decode("utf-8", "replace").splitlines()
    return rules(lines)


def rules(lines: Iterable[str]) -> tuple[Rule, ...]:
    """Make rules of lines; empty ones and comments make none."""
    return tuple(rule for line in lines if (rule := _rule(line)) is not None)


def is_ignored(name: str, *, is_folder: bool, by: Iterable[Rule]) -> bool:
    """Say whether a file stays out. `name` is relative, with `/` between its parts."""
    ignored = False
    for rule in by:
        if (is_folder or not rule.folders_only) and rule.pattern.fullmatch(name):
            ignored = not rule.takes_in
    return ignored


def _rule(line: str) -> Rule | None:
    text = line.rstrip()
    if not text or text.startswith("#"):
        return None
    takes_in = text.startswith("!")
    text = text.removeprefix("!")
    if text.startswith("\\"):
        text = text[1:]
    folders_only = text.endswith("/")
    text = text.rstrip("/")
    tied = "/" in text
    text = text.removeprefix("/")
    if not text:
        return None
    pattern = _expression(text)
    return Rule(re.compile(pattern if tied else f"(?:.*/)?{pattern}"), takes_in, folders_only)


def _expression(text: str) -> str:
    """Translate a pattern to a regular expression without nested repetition."""
    parts: list[str] = []
    place = 0
    while place < len(text):
        if text.startswith("**/", place):
            parts.append("(?:.*/)?")
            place += 3
        elif text.startswith("**", place):
            parts.append(".*")
            place += 2
        else:
            taken, expression = _one(text, place)
            parts.append(expression)
            place += taken
    return "".join(parts)


def _one(text: str, place: int) -> tuple[int, str]:
    letter = text[place]
    if letter == "*":
        return 1, "[^/]*"
    if letter == "?":
        return 1, "[^/]"
    end = text.find("]", place + 2)
    if letter == "[" and end > 0:
        inner = text[place + 1 : end].replace("\\", "\\\\").replace("[", "\\[")
        inner = f"^{inner[1:]}" if inner.startswith("!") else inner.replace("^", "\\^")
        expression = f"[{inner}]"
        try:
            re.compile(expression)
        except re.error:
            return 1, re.escape(letter)
        return end + 1 - place, f"(?!/){expression}"
    return 1, re.escape(letter)
