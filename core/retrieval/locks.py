"""Locks between processes that name their holder.

A library has two: ``catalogue`` guards the set of books (add, remove, rebuild; seconds), ``vectors`` guards the
Chroma folder (held while vectors are made, or by the web demo). The system releases a dead process's lock.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from core.errors import LibraryBusy

__all__ = ["held_lock", "holder_of"]

UNKNOWN_HOLDER, NOTE_WAIT_S = "another process", 0.5


@contextlib.contextmanager
def held_lock(path: Path, purpose: str, *, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the lock file at ``path`` for the length of the block.

    Args:
        purpose: what is being done, in words that a person who is kept out will read.
        wait_s: how long to wait for another holder.

    Raises:
        LibraryBusy: another process, or another thread of this one, still holds it; the message names the holder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, thread_local=False)
    try:
        try:
            lock.acquire(timeout=wait_s, poll_interval=0.05)
        except Timeout:
            if holder_of(path) != UNKNOWN_HOLDER:
                raise
            # The holder is about to write its note, or has taken it away and is about to end.
            lock.acquire(timeout=NOTE_WAIT_S, poll_interval=0.05)
    except Timeout as taken:
        raise LibraryBusy(holder_of(path)) from taken
    note = _note_of(path)
    try:
        record = {"pid": os.getpid(), "host": socket.gethostname(), "purpose": purpose, "since": time.time()}
        note.write_text(json.dumps(record), encoding="utf-8")
        yield
    finally:
        note.unlink(missing_ok=True)
        lock.release()


def holder_of(path: Path) -> str:
    """Who holds the lock, in words: purpose, process number, machine and since when."""
    try:
        record = json.loads(_note_of(path).read_text(encoding="utf-8"))
        since = time.strftime("%H:%M:%S", time.localtime(record["since"]))
        return f"process {record['pid']} on {record['host']} ({record['purpose']}, since {since})"
    except (OSError, ValueError, KeyError, TypeError):
        return UNKNOWN_HOLDER


def _note_of(path: Path) -> Path:
    return path.with_suffix(".holder.json")
