"""Texts that a model has written about a book, kept beside the book: what was written once is never written again.

One JSON object a line, appended in one write, so a process that is killed, or a full disk, leaves at most its last line
unfinished; such a line is passed over, and the next one, whoever writes it, begins on a line of its own. Nothing here
knows what a text is about.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from io import FileIO
from pathlib import Path

from core.errors import LibraryError

__all__ = ["KeptTexts", "key_of"]

FILE = "summaries.jsonl"


def key_of(*parts: object) -> str:
    """A name for all that decides a text: the model, its settings, and the whole prompt."""
    joined = json.dumps([str(part) for part in parts], ensure_ascii=False)
    return hashlib.sha256(joined.encode("utf-8", "surrogatepass")).hexdigest()[:32]


class KeptTexts:
    """The texts kept in a book's folder, by key; several threads may use it.

    Args:
        folder: of the book; it goes with the book when that is removed.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._guard = threading.Lock()
        self._texts: dict[str, str] = {}
        self._read()

    def get(self, key: str) -> str | None:
        """The text of that key, if it was kept."""
        with self._guard:
            return self._texts.get(key)

    def put(self, key: str, text: str) -> None:
        """Keep a text.

        Raises:
            LibraryError: the disk refuses.
        """
        line = json.dumps({"key": key, "text": text}, ensure_ascii=False) + "\n"
        with self._guard:
            if key in self._texts:
                return
            try:
                with self._path.open("ab+", buffering=0) as file:
                    data = self._line_end(file) + line.encode("utf-8", "backslashreplace")
                    # A disk with room for a part takes that part without a word.
                    while data:
                        data = data[file.write(data) :]
                    os.fsync(file.fileno())
            except OSError as refusal:
                raise LibraryError(f"{self._path} cannot be written ({refusal}); free space and ask again") from refusal
            self._texts[key] = text

    def _line_end(self, file: FileIO) -> bytes:
        """What the last line lacks, whichever process left it unfinished."""
        if not (size := file.seek(0, os.SEEK_END)):
            return b""
        file.seek(size - 1)
        return b"" if file.read(1) == b"\n" else b"\n"

    def _read(self) -> None:
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as refusal:
            raise LibraryError(f"{self._path} cannot be read ({refusal}); give this user leave to read it") from refusal
        for line in data.splitlines():
            try:
                kept = json.loads(line)
                self._texts[kept["key"]] = str(kept["text"])
            except (ValueError, TypeError, KeyError):
                continue  # a line that a killed process did not finish
