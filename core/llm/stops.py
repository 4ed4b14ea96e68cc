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
        at = min((start for start in map(text.find, self._stops) if start >= 0), default=-1)
        if at >= 0:
            self.is_cut, self._held = True, ""
            return text[:at]
        kept = len(text) - self._chars_to_hold(text)
        self._held = text[kept:]
        return text[:kept]

    def flush(self) -> str:
        """What was held back, once no more text will come."""
        held, self._held = self._held, ""
        return held

    def _chars_to_hold(self, text: str) -> int:
        for length in range(min(self._longest_chars - 1, len(text)), 0, -1):
            if any(len(stop) > length and text.endswith(stop[:length]) for stop in self._stops):
                return length
        return 0
