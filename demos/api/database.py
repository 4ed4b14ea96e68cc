"""The service's file: keys, tasks, and answers that may be asked for again."""

from __future__ import annotations

from pathlib import Path

from core.data.sqlite_file import FileForm, SqliteFile
from core.errors import NovelscopeError

__all__ = ["DatabaseError", "open_database"]


class DatabaseError(NovelscopeError):
    """The service's file cannot be read or written."""


_FORM = FileForm(
    application=0x6E766170,  # "nvap"
    version=1,
    error=DatabaseError,
    schema="""
CREATE TABLE keys (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, salt TEXT NOT NULL, created_at REAL NOT NULL, revoked_at REAL
) STRICT;
CREATE TABLE tasks (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, request_id TEXT NOT NULL,
    model TEXT NOT NULL, call TEXT NOT NULL, state TEXT NOT NULL, runs INTEGER NOT NULL DEFAULT 0,
    answer TEXT, failure TEXT, created_at REAL NOT NULL, ended_at REAL
) STRICT;
CREATE INDEX tasks_by_state ON tasks (state, owner, number);
CREATE TABLE answers (
    owner TEXT NOT NULL, key_hash TEXT NOT NULL, call_hash TEXT NOT NULL, answer TEXT, task_id TEXT,
    created_at REAL NOT NULL, PRIMARY KEY (owner, key_hash)
) STRICT;
""",
)


def open_database(path: Path) -> SqliteFile:
    """The file, made where it is missing.

    Raises:
        DatabaseError: it is damaged, another program's, of a newer novelscope, or cannot be written.
    """
    return SqliteFile(path, _FORM)
