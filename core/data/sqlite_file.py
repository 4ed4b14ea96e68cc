"""A file of ours in SQLite's form: whole transactions whatever happens, and one clear sentence where it cannot be used.

Every commit is on disk before it is reported, and a process that is killed leaves whole transactions. One connection is
shared by the threads of a process; other processes may use the file at the same time. Nothing here knows what the rows
mean.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import NovelscopeError

__all__ = ["FileForm", "SqliteFile"]

BUSY_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FileForm:
    """What a kind of file is.

    Attributes:
        schema: statements that make the tables, parted by semicolons.
        version: of the schema.
        application: a number that tells the file from any other program's.
        error: raised where the file cannot be used.
    """

    schema: str
    version: int
    application: int
    error: type[NovelscopeError]


class SqliteFile:
    """The file, opened; made with its tables where it is missing, readable by this user alone.

    Raises:
        NovelscopeError: of the form's kind: the file is damaged, another program's, of a newer novelscope, or cannot be
            written.
    """

    def __init__(self, path: Path, form: FileForm) -> None:
        self.path, self._form = path, form
        self._guard = threading.RLock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Made before SQLite would: its own files beside it take over the mode. A file that exists is not opened:
            # closing it would drop the locks of every other connection of this process.
            with contextlib.suppress(FileExistsError):
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            self._connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            self._connection.row_factory = sqlite3.Row
        except (OSError, sqlite3.Error) as wrong:
            raise self._error(wrong) from wrong
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        form = self._form
        with self.transaction():
            version, application = (self.row(f"PRAGMA {name}")[0] for name in ("user_version", "application_id"))
            if application == form.application and version > form.version:
                raise form.error(f"{self.path} was written by a newer novelscope; update, or move the file away")
            if application != form.application:
                if version or self.row("SELECT count(*) FROM sqlite_schema")[0]:
                    raise form.error(f"{self.path} is another program's file; move it away")
                for statement in filter(str.strip, form.schema.split(";")):
                    self.write(statement)
                self.write(f"PRAGMA application_id = {form.application}")
                self.write(f"PRAGMA user_version = {form.version}")
        # secure_delete: what is forgotten is overwritten, not only let go of.
        for setting in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON"):
            self.rows(f"PRAGMA {setting}")
        if (found := self.row("PRAGMA quick_check(1)")[0]) != "ok":
            raise self._error(sqlite3.DatabaseError(found))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written in the block is kept, or nothing of it."""
        with self._guard:
            self._run("BEGIN IMMEDIATE")
            try:
                yield
                self._run("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.rollback()
                raise

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """What a query finds; a row's values go by number and by name."""
        with self._guard:
            return self._fetched(self._run(statement, values))

    def row(self, statement: str, values: Sequence[Any] = ()) -> Any:
        """The first row that a query finds, or None."""
        return next(iter(self.rows(statement, values)), None)

    def write(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Change rows; how many were changed."""
        with self._guard:
            return self._run(statement, values).rowcount

    def empty_log(self) -> None:
        """Write the log into the file, and leave nothing in it."""
        self.rows("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Write everything into the one file and let go of it."""
        with self._guard:
            self._connection.close()

    def _run(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        try:
            return self._connection.execute(statement, values)
        except sqlite3.Error as wrong:
            raise self._error(wrong) from wrong

    def _fetched(self, cursor: sqlite3.Cursor) -> list[Any]:
        try:
            return cursor.fetchall()
        except sqlite3.Error as wrong:
            raise self._error(wrong) from wrong

    def _error(self, wrong: Exception) -> NovelscopeError:
        # SQLite's check puts a heading over what it found.
        reason = getattr(wrong, "strerror", None) or " ".join(str(wrong).splitlines()[-1:])
        return self._form.error(f"{self.path} cannot be used ({reason}); check the disk, or move the file away")
