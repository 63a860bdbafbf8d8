"""What happened, line by line: kept only when somebody wants to read it."""

import asyncio
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import structlog

LINE_MAX = 220


@dataclass(slots=True)
class Recording:
    """The trace of a run. `wanted` decides whether lines are written at all."""

    wanted: bool = False
    lines: list[str] = field(default_factory=list)

    def note(self, who: str, what: str) -> None:
        if self.wanted:
            now = asyncio.get_running_loop().time()
            self.lines.append(f"{now:10.4f}  {who:<13} {what}"[:LINE_MAX])

    def call(self, who: str, name: str, outcome: object) -> None:
        if self.wanted:
            self.note(who, f"{name} = {_short(outcome)}")

    def log(self, logger: Any, method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
        """A processor of structlog's: the services' own log lines."""
        if self.wanted:
            words = " ".join(f"{key}={value}" for key, value in event.items() if key != "event")
            self.note("  log", f"{event.get('event')} {words}")
        raise structlog.DropEvent


def _short(outcome: object) -> str:
    if isinstance(outcome, Exception):
        return f"{type(outcome).__name__}: {outcome}"
    if isinstance(outcome, list | dict):
        return f"{len(outcome)} of them"
    text = repr(outcome)
    return text if len(text) < 80 else f"{text[:77]}..."
