"""The SQLite file of an outbox: its tables, how it is opened, and the lock that makes it one process's."""

import logging
import sqlite3
from pathlib import Path

log = logging.getLogger("fedbus")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS record (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    class TEXT NOT NULL,
    logged REAL NOT NULL,
    since REAL NOT NULL,
    batch INTEGER,
    place INTEGER,
    size INTEGER NOT NULL,
    content BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS waiting ON record (class, number) WHERE batch IS NULL;
CREATE INDEX IF NOT EXISTS decaying ON record (class, since) WHERE batch IS NULL;
CREATE INDEX IF NOT EXISTS sent ON record (batch, place) WHERE batch IS NOT NULL;
CREATE TABLE IF NOT EXISTS fact (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
"""


def opened(file: Path | None, wait_s: float) -> sqlite3.Connection:
    """Open the file, or a database in memory. One that is damaged is put aside. Raises `sqlite3.Error`."""
    if file is None:
        return _prepared(connect(None, 0))
    try:
        return _prepared(connect(file, wait_s))
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        aside = file.with_suffix(".damaged")
        log.error("the outbox %s cannot be read (%s); it is now %s", file, error, aside)
        file.replace(aside)
        for left in ("-wal", "-shm"):
            file.with_name(file.name + left).unlink(missing_ok=True)
        return _prepared(connect(file, wait_s))


def lock(file: Path, wait_s: float) -> sqlite3.Connection:
    """Hold a file for this process alone; its end, however it comes, gives it back. Raises `OSError`.

    A lock of SQLite's own, so it works wherever SQLite does, and a forked child does not keep it.
    """
    database = connect(file, wait_s)
    try:
        database.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        database.close()
        raise OSError(
            "another process works with it; give each client its own state_dir"
        ) from error
    return database


def connect(file: Path | None, wait_s: float) -> sqlite3.Connection:
    """Connect; whoever shares the connection among threads has a lock of its own."""
    return sqlite3.connect(
        ":memory:" if file is None else file,
        timeout=wait_s,
        isolation_level=None,
        check_same_thread=False,
    )


def _prepared(database: sqlite3.Connection) -> sqlite3.Connection:
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")  # no sync in a commit: `Outbox.sync` does that
    database.execute("PRAGMA wal_autocheckpoint = 0")
    database.executescript(_SCHEMA)
    return database
