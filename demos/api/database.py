"""The service's SQLite file: keys, tasks and answers that may be asked for again.

Every commit is on disk before it is reported, and a process that is killed leaves whole transactions. One connection is
shared by the threads of a process; other processes (``novelscope key``) may use the file at the same time. Nothing here
knows what the rows mean.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core.errors import NovelscopeError

__all__ = ["Database", "DatabaseError"]

VERSION = 1
BUSY_S = 10.0
SCHEMA = """
CREATE TABLE IF NOT EXISTS keys (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, salt TEXT NOT NULL, created_at REAL NOT NULL, revoked_at REAL
) STRICT;
CREATE TABLE IF NOT EXISTS tasks (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, request_id TEXT NOT NULL,
    model TEXT NOT NULL, call TEXT NOT NULL, state TEXT NOT NULL, runs INTEGER NOT NULL DEFAULT 0,
    answer TEXT, failure TEXT, created_at REAL NOT NULL, ended_at REAL
) STRICT;
CREATE INDEX IF NOT EXISTS tasks_by_state ON tasks (state, owner, number);
CREATE TABLE IF NOT EXISTS answers (
    owner TEXT NOT NULL, key_hash TEXT NOT NULL, call_hash TEXT NOT NULL, answer TEXT, task_id TEXT,
    created_at REAL NOT NULL, PRIMARY KEY (owner, key_hash)
) STRICT;
"""


class DatabaseError(NovelscopeError):
    """The service's file cannot be read or written."""


class Database:
    """The file, opened; made with its tables where it is missing, readable by this user alone.

    Raises:
        DatabaseError: the file is damaged, of a newer novelscope, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._guard = threading.RLock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Made before SQLite would: its own files beside it take over the mode. A file that exists is not opened:
            # closing it would drop the locks of every other connection of this process.
            with contextlib.suppress(FileExistsError):
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            self._connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            self._connection.row_factory = sqlite3.Row
            self._prepare()
        except (OSError, sqlite3.Error) as wrong:
            raise self._error(wrong) from wrong

    def _prepare(self) -> None:
        for setting in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            self._connection.execute(f"PRAGMA {setting}")
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise DatabaseError(f"{self.path} was written by a newer novelscope; update, or move the file away")
        (found,) = self._connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(found)
        with self.transaction():
            for statement in filter(str.strip, SCHEMA.split(";")):
                self._connection.execute(statement)
            self._connection.execute(f"PRAGMA user_version = {VERSION}")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written in the block is kept, or nothing of it."""
        with self._guard:
            self._run("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.rollback()
                raise
            self._run("COMMIT")

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """What a query finds."""
        with self._guard:
            return self._run(statement, values).fetchall()

    def row(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Row | None:
        """The first row that a query finds."""
        with self._guard:
            found: sqlite3.Row | None = self._run(statement, values).fetchone()
            return found

    def write(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Change rows; how many were changed."""
        with self._guard:
            return self._run(statement, values).rowcount

    def close(self) -> None:
        """Write everything into the one file and let go of it."""
        with self._guard:
            self._connection.close()

    def _run(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        try:
            return self._connection.execute(statement, values)
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as wrong:
            raise self._error(wrong) from wrong

    def _error(self, wrong: Exception) -> DatabaseError:
        return DatabaseError(
            f"{self.path} cannot be used ({wrong}); check the folder and its free space, or move the file away"
        )
