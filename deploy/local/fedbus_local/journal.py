"""The one interleaved log of all processes: JSON lines, turned over at a size, old parts dropped."""

import json
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from fedbus_local.feed import Feed
from fedbus_local.layout import DIRECTORY_MODE

FILE = "fedbus.log"
PART_BYTES_MAX = 8 * 1024 * 1024
PARTS_MAX = 4
LINE_BYTES_MAX = 32 * 1024
SUPERVISOR = "fedbus"
"""The name under which the supervisor itself writes."""

Entry = dict[str, str]


@dataclass(slots=True)
class Journal:
    """Writes entries and hands them to those who follow."""

    folder: Path
    part_bytes_max: int = PART_BYTES_MAX
    parts_max: int = PARTS_MAX
    feed: Feed[Entry] = field(default_factory=Feed)
    _file: TextIO | None = None
    _size: int = 0

    def write(self, name: str, line: str) -> None:
        """Add one line of a process."""
        entry = {"time": _now(), "process": name, "line": line}
        text = json.dumps(entry, ensure_ascii=False) + "\n"
        file = self._open()
        file.write(text)
        file.flush()
        self._size += len(text.encode())
        self.feed.send(entry)
        if self._size > self.part_bytes_max:
            self._turn_over()

    def note(self, line: str) -> None:
        """Add a line of the supervisor's own."""
        self.write(SUPERVISOR, line)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> TextIO:
        if self._file is None:
            self.folder.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
            path = self.folder / FILE
            self._file = path.open("a", encoding="utf-8", errors="replace")
            self._size = path.stat().st_size
        return self._file

    def _turn_over(self) -> None:
        self.close()
        for number in range(self.parts_max - 1, 0, -1):
            older = self.folder / (FILE if number == 1 else f"{FILE}.{number - 1}")
            if older.exists():
                older.replace(self.folder / f"{FILE}.{number}")


def read(folder: Path, count: int, name: str | None = None) -> list[Entry]:
    """Give the last entries, oldest first; only those of one process when it is named."""
    chosen = (each for each in _entries(folder) if name is None or each["process"] == name)
    return list(deque(chosen, maxlen=count))


def _entries(folder: Path) -> Iterator[Entry]:
    parts = sorted(folder.glob(f"{FILE}.*"), key=lambda path: -int(path.suffix[1:]))
    for part in (*parts, folder / FILE):
        try:
            with part.open(encoding="utf-8") as file:
                yield from (entry for line in file if (entry := _entry(line)) is not None)
        except FileNotFoundError:
            continue


def _entry(line: str) -> Entry | None:
    try:
        content: object = json.loads(line)
    except ValueError:
        return None  # the machine stopped in mid-write
    if not isinstance(content, dict) or not {"time", "process", "line"} <= content.keys():
        return None
    return {key: str(content[key]) for key in ("time", "process", "line")}


def _now() -> str:
    return datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds")
