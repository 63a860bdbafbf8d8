"""What a client has logged and no server has acknowledged: a bounded queue in SQLite, on disk or in memory.

Durability: `put` returns when the record is written to the file, which outlives the process, however it
is killed. `sync` brings what was written to the disk itself, which outlives the power; it runs about
once a second, beside the writers. The file is never damaged by either.

One batch is out at a time. Its records keep its number and their place in it until it is
acknowledged, so after a restart the very same batch is sent again, and the servers store it once.
"""

import logging
import os
import secrets
import sqlite3
import threading
import time
from base64 import b32encode
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from fedbus_schemas.records import BATCH_BYTES_MAX, BATCH_RECORDS_MAX

from fedbus import _database, _files
from fedbus.errors import BadOption
from fedbus.priorities import Priorities, PriorityClass

log = logging.getLogger("fedbus")

LOCK_WAIT_S = 10.0
"""How long a client waits for another process that has the same outbox open."""
ENVELOPE_BYTES_MAX = 256
"""What a batch has beside its records."""
RECORD_OVERHEAD_BYTES = 64
"""What a record takes beside its content: in the file, and in a batch."""

_OLDEST = """
SELECT number, class, size FROM record WHERE batch IS NULL AND class = ? ORDER BY number LIMIT ?
"""
_NEWEST = """
SELECT number, class, size FROM record WHERE batch IS NULL AND class = ? ORDER BY number DESC LIMIT ?
"""


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch that is out: its number, how many records it has, and what is sent."""

    number: int
    count: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits: records, their bytes, records left out so far, and the oldest one's age."""

    total: int
    bytes: int
    dropped: int
    oldest_age_s: float


@dataclass(slots=True)
class _Held:
    count: int = 0
    bytes: int = 0

    def add(self, count: int, size: int) -> None:
        self.count += count
        self.bytes += size


class OutboxClosed(Exception):
    """The client has stopped."""


@dataclass(slots=True)
class Outbox:
    """A queue of records. All methods may be called from any thread of the process that made it."""

    file: Path | None = None
    records_max: int = 100_000
    bytes_max: int = 256 * 1024**2
    priorities: Priorities = field(default_factory=Priorities)
    clock: Callable[[], float] = time.time
    lock_wait_s: float = LOCK_WAIT_S
    stream: str = field(init=False, default="")
    step: int = field(init=False, default=0)
    _lock: threading.RLock = field(init=False, default_factory=threading.RLock)
    _pid: int = field(init=False, default_factory=os.getpid)
    _waiting: dict[str, _Held] = field(init=False, default_factory=dict)
    _out: _Held = field(init=False, default_factory=_Held)
    _dropped: int = field(init=False, default=0)
    _unsaved: int = field(init=False, default=0)
    _dirty: bool = field(init=False, default=False)
    _open: bool = field(init=False, default=True)
    _taken: sqlite3.Connection | None = field(init=False, default=None)
    _file: sqlite3.Connection = field(init=False)

    def __post_init__(self) -> None:
        """Open the outbox. Raises `BadOption` when another process has it, or the folder is unusable."""
        try:
            if self.file is not None:
                self.file.parent.mkdir(mode=_files.FOLDER_MODE, parents=True, exist_ok=True)
                self._taken = _database.lock(self.file.with_suffix(".lock"), self.lock_wait_s)
            self._file = _database.opened(self.file, self.lock_wait_s)
        except (OSError, sqlite3.Error) as error:
            raise BadOption(f"the outbox in state_dir cannot be used: {error}") from error
        self._load()

    # From the user's threads.

    def put(self, priority: str, content: bytes, *, step: int | None = None) -> bool:
        """Keep a record; False when it could not be kept, which is counted and logged.

        `content` is the record as JSON without its beginning `{"number":…,`. `step` is remembered with
        it. Raises `OutboxClosed`, and `BadOption` for a class that there is not.
        """
        with self._lock:
            if priority not in self.priorities:
                known = ", ".join(one.name for one in self.priorities.all())
                raise BadOption(f"there is no priority class {priority!r}; there are {known}")
            now = self.clock()
            try:
                with self._transaction() as database:
                    database.execute(
                        "INSERT INTO record (class, logged, since, size, content) VALUES (?, ?, ?, ?, ?)",
                        (priority, now, now, len(content) + RECORD_OVERHEAD_BYTES, content),
                    )
                    if step is not None:
                        self._remember("step", step)
                    self._held(priority).add(1, len(content) + RECORD_OVERHEAD_BYTES)
                    self._make_room()
            except sqlite3.OperationalError as error:  # the disk is full, or gone
                self._unsaved += 1
                if self._unsaved & (self._unsaved - 1) == 0:
                    log.warning("cannot keep a record: %s (%d so far)", error, self._unsaved)
                return False
            if step is not None:
                self.step = step
            return True

    def waiting(self) -> Waiting:
        """Say what waits."""
        with self._lock:
            self._demand()
            oldest = self._file.execute(
                "SELECT logged FROM record ORDER BY number LIMIT 1"
            ).fetchone()
            age_s = 0.0 if oldest is None else max(0.0, self.clock() - oldest[0])
            held = [*self._waiting.values(), self._out]
            return Waiting(
                total=sum(one.count for one in held),
                bytes=sum(one.bytes for one in held),
                dropped=self._dropped + self._unsaved,
                oldest_age_s=age_s,
            )

    def change_classes(self, change: Callable[[Priorities], None]) -> None:
        """Change the priority classes."""
        with self._lock:
            change(self.priorities)

    # From the sender's thread.

    def take(self, records_max: int = BATCH_RECORDS_MAX) -> Batch | None:
        """Give the batch that is out, or send the next records out as one; None = there is nothing."""
        with self._lock:
            self._demand()
            if not self._out.count:
                self._send_out(records_max)
            rows = self._file.execute(
                "SELECT batch, number, content FROM record WHERE batch IS NOT NULL ORDER BY place"
            ).fetchall()
        if not rows:
            return None
        number = rows[0][0]
        records = b",".join(b'{"number":%d,%b' % (one, content) for _, one, content in rows)
        head = b'{"stream":"%b","batch":%d,"records":[' % (self.stream.encode(), number)
        return Batch(number, len(rows), head + records + b"]}")

    def acknowledge(self, batch: Batch) -> None:
        """The batch is stored: forget it."""
        self._end(batch, dropped=0)

    def drop(self, batch: Batch) -> None:
        """The batch is refused for good: forget it, and count its records as left out."""
        self._end(batch, dropped=batch.count)

    def dissolve(self, batch: Batch) -> None:
        """The batch is refused: let its records wait again, so that smaller ones can be made."""
        with self._lock, self._transaction() as database:
            for name, count, size in database.execute(
                "SELECT class, count(*), sum(size) FROM record WHERE batch = ? GROUP BY class",
                (batch.number,),
            ).fetchall():
                self._held(name).add(count, size)
            database.execute(
                "UPDATE record SET batch = NULL, place = NULL WHERE batch = ?", (batch.number,)
            )
            self._out = _Held()

    def sync(self) -> None:
        """Bring what is written to the disk. Writers go on meanwhile."""
        if self.file is None or not self._dirty:
            return
        self._dirty = False
        with (
            suppress(sqlite3.OperationalError),
            closing(_database.connect(self.file, 1.0)) as database,
        ):
            database.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def close(self) -> None:
        """Close. A second time changes nothing."""
        with self._lock:
            if not self._open:
                return
            self._open = False
            if os.getpid() == self._pid:
                self._file.close()
                if self._taken is not None:
                    self._taken.close()

    # Inside.

    def _load(self) -> None:
        facts = dict(self._file.execute("SELECT name, value FROM fact").fetchall())
        self.stream = facts.get("stream") or b32encode(secrets.token_bytes(10)).decode().lower()
        self.step = int(facts.get("step", 0))
        self._dropped = int(facts.get("dropped", 0))
        if "stream" not in facts:
            with self._transaction():
                self._remember("stream", self.stream)
        self._count()

    def _count(self) -> None:
        """Count what is held, from the file."""
        self._waiting, self._out = {}, _Held()
        for name, out, count, size in self._file.execute(
            "SELECT class, batch IS NOT NULL, count(*), sum(size) FROM record GROUP BY 1, 2"
        ).fetchall():
            (self._out if out else self._held(name)).add(count, size)

    def _held(self, name: str) -> _Held:
        return self._waiting.setdefault(name, _Held())

    def _make_room(self) -> None:
        """Drop the oldest of the lowest class until everything fits."""
        if self._fits():
            return
        self._decay()
        while not self._fits():
            names = [name for name, one in self._waiting.items() if one.count]
            if not names:
                return  # all of it is out
            lowest = min(names, key=self._rank)
            number, size = self._file.execute(
                "SELECT number, size FROM record WHERE batch IS NULL AND class = ? "
                "ORDER BY number LIMIT 1",
                (lowest,),
            ).fetchone()
            self._file.execute("DELETE FROM record WHERE number = ?", (number,))
            self._held(lowest).add(-1, -size)
            self._leave_out(1)

    def _fits(self) -> bool:
        held = [*self._waiting.values(), self._out]
        count, size = sum(one.count for one in held), sum(one.bytes for one in held)
        return count <= self.records_max and size <= self.bytes_max

    def _rank(self, name: str) -> tuple[int, str]:
        """Order classes as they are sent; what has none is in the default class."""
        one = self.priorities.named(name)
        return (one.priority, name)

    def _send_out(self, records_max: int) -> None:
        """Choose the next records, in order, as a batch."""
        with self._transaction() as database:
            self._decay()
            room = BATCH_BYTES_MAX - ENVELOPE_BYTES_MAX
            chosen: list[tuple[int, str, int]] = []
            for one in self.priorities.all():
                found = self._next_of(one, records_max - len(chosen))
                fitting = _fitting(found, room)
                chosen += fitting
                room -= sum(size for _, _, size in fitting)
                if len(fitting) < len(found) or len(chosen) >= records_max:
                    break
            if not chosen:
                return
            batch = 1 + int(
                _one(database.execute("SELECT value FROM fact WHERE name = 'batch'"), 0)
            )
            self._remember("batch", batch)
            database.executemany(
                "UPDATE record SET batch = ?, place = ? WHERE number = ?",
                [(batch, place, number) for place, (number, _, _) in enumerate(chosen)],
            )
            for _, name, size in chosen:
                self._held(name).add(-1, -size)
                self._out.add(1, size)

    def _next_of(self, one: PriorityClass, limit: int) -> list[tuple[int, str, int]]:
        """Give number, class and size of a class's next records."""
        names = [name for name in self._waiting if self.priorities.named(name) is one]
        newest_first = one.order == "lifo"
        found: list[tuple[int, str, int]] = []
        for name in names if limit > 0 else ():
            found += self._file.execute(
                _NEWEST if newest_first else _OLDEST, (name, limit)
            ).fetchall()
        return sorted(found, reverse=newest_first)[:limit]

    def _decay(self) -> None:
        """Move or drop what waits too long in its class."""
        now = self.clock()
        for one in self.priorities.all():
            after_s = one.demote_after_s or one.drop_after_s
            if after_s is None or not self._waiting.get(one.name, _Held()).count:
                continue
            late = (one.name, now - after_s)
            count, size = self._file.execute(
                "SELECT count(*), coalesce(sum(size), 0) FROM record "
                "WHERE batch IS NULL AND class = ? AND since <= ?",
                late,
            ).fetchone()
            if not count:
                continue
            self._held(one.name).add(-count, -size)
            if one.drop_after_s is not None:
                self._file.execute(
                    "DELETE FROM record WHERE batch IS NULL AND class = ? AND since <= ?", late
                )
                self._leave_out(count)
            else:
                self._file.execute(
                    "UPDATE record SET class = ?, since = ? "
                    "WHERE batch IS NULL AND class = ? AND since <= ?",
                    (one.demote_to, now, *late),
                )
                self._held(one.demote_to).add(count, size)

    def _end(self, batch: Batch, dropped: int) -> None:
        with self._lock, self._transaction() as database:
            database.execute("DELETE FROM record WHERE batch = ?", (batch.number,))
            self._out = _Held()
            if dropped:
                self._leave_out(dropped)

    def _leave_out(self, count: int) -> None:
        self._dropped += count
        self._remember("dropped", self._dropped)

    def _remember(self, name: str, value: int | str) -> None:
        self._file.execute("REPLACE INTO fact (name, value) VALUES (?, ?)", (name, value))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._demand()
        database = self._file
        waiting = {name: replace(one) for name, one in self._waiting.items()}
        before = (waiting, replace(self._out), self._dropped)
        database.execute("BEGIN IMMEDIATE")
        try:
            yield database
            database.execute("COMMIT")
        except BaseException:
            self._waiting, self._out, self._dropped = before
            with suppress(sqlite3.OperationalError):  # SQLite has done it already
                database.execute("ROLLBACK")
            raise
        self._dirty = True

    def _demand(self) -> None:
        if not self._open:
            raise OutboxClosed
        if os.getpid() != self._pid:
            raise RuntimeError(
                "this process was forked from the client's; log from the client's own process"
            )


def _fitting(found: list[tuple[int, str, int]], room: int) -> list[tuple[int, str, int]]:
    """Give the first records that fit into so many bytes together."""
    for index, (_, _, size) in enumerate(found):
        room -= size
        if room < 0:
            return found[:index]
    return found


def _one(cursor: sqlite3.Cursor, missing: int) -> int:
    row = cursor.fetchone()
    return missing if row is None else int(row[0])
