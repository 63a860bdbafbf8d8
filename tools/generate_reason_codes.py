"""Writes `docs/reason-codes.md` from `RefusalCode` and `MEANING`."""

import inspect
import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

from fedbus_api.problems import STATUS
from fedbus_core.rounds.state import RoundPhase, SessionPhase
from fedbus_schemas.events import ClosingReason, FailureReason
from fedbus_schemas.refusals import MEANING, RefusalCode
from fedbus_schemas.tasks import Fate

PAGE = Path(__file__).parent.parent / "docs" / "reason-codes.md"
OTHER_STATUS = 422

HEAD = """# Reason codes

This page is written by `tools/generate_reason_codes.py` from the code (`make docs`); a test fails when the
two differ.

A refusal is a value: a code, and a detail that says what exactly was wrong. The same codes appear in
answers to clients, in a round's list of refused updates, in the api's problems (`code`), in `GET
/v1/refusals` and in the log line `ask.refused`. The last column is the HTTP status where the api answers
with that code.
"""
WORDS = """## Other fixed words

| where | words |
| --- | --- |
"""
TAIL = """
Messages that no service could handle lie in the stream DEAD. Their header `Dead-Code` is one of the codes
above, or `deliveries_used_up`: whoever held the message died or failed, twenty times. The audit's finding
codes are told by `fedbus audit verify` itself; see [audit](audit.md).
"""


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """Give the whole page."""
    parts = [HEAD]
    for heading, codes in groups():
        parts += [
            f"## {heading}\n",
            "| code | meaning, and what to do | HTTP |",
            "| --- | --- | --- |",
        ]
        parts += [
            f"| `{code}` | {MEANING[code]} | {STATUS.get(code, OTHER_STATUS)} |" for code in codes
        ]
        parts.append("")
    rows = (
        ("a session's phase", SessionPhase),
        ("an open round's phase", RoundPhase),
        ("why a round stops collecting", ClosingReason),
        ("why an attempt or a session failed", FailureReason),
        ("what became of an update (its receipt)", Fate),
    )
    return "\n".join(parts) + "\n" + WORDS + "".join(words(*row) for row in rows) + TAIL


def words(where: str, kind: type[StrEnum]) -> str:
    """Write a row of fixed words."""
    return f"| {where} | {', '.join(f'`{one.value}`' for one in kind)} |\n"


def groups() -> Iterator[tuple[str, list[RefusalCode]]]:
    """Give the codes under the comments that stand above them in the code."""
    heading, codes = "", list[RefusalCode]()
    for line in inspect.getsource(RefusalCode).splitlines():
        comment = re.fullmatch(r"\s+# (.*?)\.", line)
        value = re.fullmatch(r"\s+[A-Z_]+ = \"(\w+)\"(  #.*)?", line)
        if comment:
            if codes:
                yield heading, codes
            heading, codes = comment[1], []
        elif value:
            codes.append(RefusalCode(value[1]))
    yield heading, codes


if __name__ == "__main__":
    main()
