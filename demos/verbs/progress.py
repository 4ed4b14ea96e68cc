"""Progress on stderr: one line rewritten in place on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

__all__ = ["ProgressLine", "duration"]

REWRITE_EVERY_S, LINE_EVERY_S = 0.1, 10.0
ERASE_LINE = "\r\x1b[K"


class ProgressLine:
    """Shows the newest of many messages; nothing of it stays on a terminal after ``close``."""

    def __init__(self, out: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out or sys.stderr
        self._clock = clock
        self._is_terminal = self._out.isatty()
        self._next_at = clock() + (0.0 if self._is_terminal else LINE_EVERY_S)
        self._is_shown = False

    def show(self, message: str) -> None:
        """Show the message, unless another was shown an instant ago."""
        now = self._clock()
        if now < self._next_at:
            return
        self._next_at = now + (REWRITE_EVERY_S if self._is_terminal else LINE_EVERY_S)
        self._out.write(f"{ERASE_LINE}{message}" if self._is_terminal else f"{message}\n")
        self._out.flush()
        self._is_shown = self._is_terminal

    def close(self) -> None:
        """Give the line back to whoever writes next."""
        if self._is_shown:
            self._out.write(ERASE_LINE)
            self._out.flush()
            self._is_shown = False


def duration(seconds: float) -> str:
    """Seconds in words that are exact enough to wait by."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
