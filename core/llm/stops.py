"""End a stream of text at the first stop string, wherever the borders between pieces fall.

Nothing here knows tokens or models.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["StopCutter"]


class StopCutter:
    """Passes text on up to the first stop string, holding back only what could become one.

    Feed pieces until ``is_cut``; then, or at the end of the stream, ``flush`` gives what was held back.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self.is_cut = False
        self._stops = tuple(stop for stop in stops if stop)
        self._longest_chars = max((len(stop) for stop in self._stops), default=0)
        self._held = ""

    def feed(self, piece: str) -> str:
        """The text that is now sure to belong to the answer."""
        if self.is_cut:
            return ""
        text = self._held + piece
        kept = len(text) - self._chars_to_hold(text)
        at = self._find(text)
        # A stop that is whole may lie inside a longer one that began earlier and is not: that one would come first.
        if 0 <= at <= kept:
            self.is_cut, self._held = True, ""
            return text[:at]
        self._held = text[kept:]
        return text[:kept]

    def flush(self) -> str:
        """What was held back, once no more text will come."""
        held, self._held = self._held, ""
        at = self._find(held)
        self.is_cut = self.is_cut or at >= 0
        return held if at < 0 else held[:at]

    def _find(self, text: str) -> int:
        return min((start for start in map(text.find, self._stops) if start >= 0), default=-1)

    def _chars_to_hold(self, text: str) -> int:
        for length in range(min(self._longest_chars - 1, len(text)), 0, -1):
            if any(len(stop) > length and text.endswith(stop[:length]) for stop in self._stops):
                return length
        return 0
