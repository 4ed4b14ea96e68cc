"""Files that are replaced in one step: whoever reads finds the whole old file or the whole new one, never a part."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from core.errors import NovelscopeError

__all__ = ["replacing"]


@contextlib.contextmanager
def replacing(path: Path, error: type[NovelscopeError], *, suffix: str = ".tmp") -> Iterator[Path]:
    """The name of a new file, which takes the place of ``path`` when the block ends, and is gone if the block fails.

    Args:
        error: raised where the system refuses, with the path and what to look at.
        suffix: of the new file's name, for a writer that goes by it.

    Raises:
        NovelscopeError: of the kind ``error``; the old file, if any, is untouched.
    """
    # In the same folder: os.replace is atomic only within one file system. Random: two threads may write one path.
    partial = path.with_name(f".{path.name}.{os.urandom(8).hex()}{suffix}")
    try:
        yield partial
        _sync(partial, os.O_RDWR)
        os.replace(partial, path)
        with contextlib.suppress(OSError):  # not every system lets a folder be opened
            _sync(path.parent, os.O_RDONLY)
    except OSError as wrong:
        raise error(f"cannot write {path}: {wrong.strerror or wrong}; check the folder and its free space") from wrong
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def _sync(path: Path, flags: int) -> None:
    """Wait until the disk has it."""
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
