"""Questions answered elsewhere: a helper process that searches, and a file in which answers appear.

The window knows no model and no index. Questions go to the helper's standard input and answers come back, one JSON
object a line (``docs/map.md``).
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from core.errors import SettingsError

__all__ = ["FollowFile", "SearchProcess"]

CLOSING_S = 3.0


class SearchProcess:
    """The helper; started with the first question, so that a window that asks nothing costs nothing.

    Attributes:
        is_waiting: whether an answer is on its way.
    """

    def __init__(self, command: Sequence[str], on_news: Callable[[], None] = lambda: None) -> None:
        """Keep the command.

        Args:
            on_news: called from another thread when ``poll`` has something.
        """
        self._command, self._on_news = list(command), on_news
        self._process: subprocess.Popen[str] | None = None
        self._answers: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self._outstanding = 0
        self._last_words = ""

    @property
    def is_waiting(self) -> bool:
        return self._outstanding > 0

    def ask(self, question: str, until_chapter: int | None) -> None:
        """Send a question; the answer to an earlier one that is still on its way will be dropped.

        Raises:
            SettingsError: the helper cannot be started.
        """
        if self._process is None or self._process.poll() is not None:
            self._start()
        assert self._process is not None and self._process.stdin is not None
        try:
            print(json.dumps({"question": question, "until": until_chapter}), file=self._process.stdin, flush=True)
        except OSError as gone:
            raise SettingsError(f"the search has stopped: {self._last_words or gone}") from gone
        self._outstanding += 1

    def poll(self) -> dict[str, Any] | None:
        """The newest question's answer, once; ``{"error": ...}`` where there is none to come."""
        newest = None
        with contextlib.suppress(Empty):
            while True:
                answer = self._answers.get_nowait()
                if answer.pop("ended", False):
                    if self._outstanding:
                        newest, self._outstanding = answer, 0
                    continue
                self._outstanding = max(0, self._outstanding - 1)
                if self._outstanding == 0:
                    newest = answer
        return newest

    def close(self) -> None:
        """End the helper."""
        process = self._process
        if process is None:
            return
        with contextlib.suppress(OSError):
            if process.stdin is not None:
                process.stdin.close()
        try:
            process.wait(CLOSING_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._process = None

    def _start(self) -> None:
        self.close()  # what is left of a helper that died
        try:
            process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                encoding="utf-8", errors="replace",
            )  # fmt: skip
        except OSError as wrong:
            raise SettingsError(f"the search cannot be started: {wrong.strerror or wrong}") from wrong
        self._process = process
        threading.Thread(target=self._hear, args=(process,), daemon=True).start()
        threading.Thread(target=self._hear_complaints, args=(process,), daemon=True).start()

    def _hear(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                try:
                    answer = json.loads(line)
                    if not isinstance(answer, dict):
                        raise ValueError("not an object")
                except ValueError:
                    answer = {"error": f"the search said something unexpected: {line.strip()[:80]}"}
                self._answers.put(answer)
                self._on_news()
        code = process.wait()
        self._answers.put({"ended": True, "error": self._last_words or f"it ended with code {code}"})
        self._on_news()

    def _hear_complaints(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        with process.stderr as lines:
            for line in lines:
                if line.strip():
                    self._last_words = line.strip()


class FollowFile:
    """A file that another program replaces with its newest answer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None

    def poll(self) -> dict[str, Any] | None:
        """The answer in the file, if it is another one than last time."""
        try:
            status = self._path.stat()
            stamp = (status.st_mtime_ns, status.st_ino)
            if stamp == self._stamp:
                return None
            self._stamp = stamp
            answer = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None  # not written yet
        return answer if isinstance(answer, dict) else None
