"""Let several threads use one model in turn, first come, first served.

A plain lock lets the thread that has just given it up take it again before any other wakes, so one request could keep
the model for its whole answer. Nothing here knows a model.
"""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType

__all__ = ["Turnstile"]


class Turnstile:
    """A lock whose holders come in the order in which they asked."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: deque[threading.Event] = deque()
        self._is_taken = False

    def __enter__(self) -> Turnstile:
        with self._guard:
            if not self._is_taken:
                self._is_taken = True
                return self
            mine = threading.Event()
            self._waiting.append(mine)
        mine.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._guard:
            if self._waiting:
                # Handed over rather than freed, so nobody can slip in between.
                self._waiting.popleft().set()
            else:
                self._is_taken = False
