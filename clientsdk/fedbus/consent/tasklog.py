"""The local task log: what was asked of this site, what the policy said, how it ended, and what left.

One JSON object a line, appended with one write. When a file is full it becomes `.1`, the older ones move on,
and the oldest goes: so the log is bounded. How much left today stands in a small file beside it.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import date, datetime
from pathlib import Path
from typing import TypeAlias

from fedbus import _files

NAME = "tasks.jsonl"
SENT = "tasks.sent"
LINE_BYTES_MAX = 64 * 1024

Value: TypeAlias = str | int | float | bool | list[str] | None
Line: TypeAlias = dict[str, Value]


class TaskLog:
    """Appends lines. Without a path it keeps nothing but today's count."""

    def __init__(self, path: Path | None, bytes_max: int, files_max: int) -> None:
        """Make the folder. Raises `OSError`."""
        self.path = path
        self._bytes_max = bytes_max
        self._files_max = files_max
        self._sent: tuple[date, int] = (date.min, 0)
        if path is not None:
            path.parent.mkdir(mode=_files.FOLDER_MODE, parents=True, exist_ok=True)
            self._sent = _read_sent(path.parent / SENT)

    def sent(self, today: date) -> int:
        """Give the bytes that left this day."""
        return self._sent[1] if self._sent[0] == today else 0

    def count(self, today: date, size: int) -> None:
        """Count bytes that are about to leave. Raises `OSError`."""
        self._sent = (today, self.sent(today) + size)
        if self.path is not None:
            text = json.dumps({"day": today.isoformat(), "bytes": self._sent[1]})
            _files.write(self.path.parent / SENT, text.encode())

    def write(self, what: str, at: datetime, fields: Mapping[str, Value]) -> None:
        """Append one line. Raises `OSError`, for example when the disk is full."""
        if self.path is None:
            return
        line = {"at": at.isoformat(timespec="milliseconds"), "what": what, **fields}
        kept = {name: value for name, value in line.items() if value not in (None, "")}
        data = json.dumps(kept, ensure_ascii=False).encode() + b"\n"
        assert len(data) <= LINE_BYTES_MAX, "a line's parts are bounded"
        self._rotate(self.path, len(data))
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            written = os.write(file, data)
            if written != len(data):
                raise OSError("the task log took only a part of a line")
        finally:
            os.close(file)

    def _rotate(self, path: Path, more: int) -> None:
        try:
            full = path.stat().st_size + more > self._bytes_max
        except FileNotFoundError:
            return
        if not full:
            return
        for number in range(self._files_max - 1, 0, -1):
            older = path.with_name(f"{path.name}.{number}")
            newer = path if number == 1 else path.with_name(f"{path.name}.{number - 1}")
            with suppress(FileNotFoundError):
                newer.replace(older)
        if self._files_max == 1:
            path.unlink(missing_ok=True)


def read_lines(path: Path) -> Iterator[Line]:
    """Give a log's lines, the oldest first, with those of its older files. What is no line is left out."""
    older = sorted(
        path.parent.glob(f"{path.name}.*"), key=lambda one: _number(one.suffix), reverse=True
    )
    for file in [*older, path]:
        with suppress(FileNotFoundError), file.open(encoding="utf-8", errors="replace") as lines:
            for text in lines:
                with suppress(ValueError):
                    found = json.loads(text)
                    if isinstance(found, dict):
                        yield found


def _number(suffix: str) -> int:
    text = suffix.removeprefix(".")
    return int(text) if text.isdecimal() else 0


def _read_sent(path: Path) -> tuple[date, int]:
    try:
        found = json.loads(path.read_bytes())
        return date.fromisoformat(found["day"]), int(found["bytes"])
    except FileNotFoundError:
        return date.min, 0
    except (ValueError, KeyError, TypeError) as error:
        raise OSError(f"{path} is not what the task log wrote; remove it") from error
