"""What happens to a text before it is cut into pieces: characters replaced, spaces made into marks.

Nothing here knows which pieces there are, but for those of the user, which no rule may change.

Source:
    github.com/google/sentencepiece, src/normalizer.cc; the table of characters is a double array of darts-clone.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable

import numpy as np

from core.engine.trie import ByteTrie
from core.errors import ModelLoadError

__all__ = ["SPACE_MARK", "PieceNormaliser"]

SPACE_MARK = "\u2581"
SPACES = re.compile(" +")
LABEL_BITS, LEAF_BIT, WIDE_BIT = 1 << 31 | 0xFF, 1 << 8, 1 << 9


class PieceNormaliser:
    """Turns plain text into text whose spaces are marks."""

    def __init__(
        self,
        *,
        add_space_prefix: bool,
        remove_extra_whitespaces: bool,
        charsmap: bytes = b"",
        user_pieces: Iterable[str] = (),
    ) -> None:
        self._add_space_prefix = add_space_prefix
        self._remove_extra = remove_extra_whitespaces
        self._map = _CharacterMap(charsmap) if charsmap else None
        self._user = ByteTrie({piece.encode(): 0 for piece in user_pieces})

    def apply(self, text: str, *, is_start: bool = True) -> str:
        """The normalised text; only the start of a whole text is given a mark in front."""
        if not text:
            return ""
        if self._map is not None:
            text = self._replace(text.encode(), self._map)
        if self._remove_extra:
            text = SPACES.sub(" ", text)
            text = text.lstrip(" ") if is_start else text
            if not text:
                return ""
        text = text.replace(" ", SPACE_MARK)
        if self._add_space_prefix and is_start:
            text = SPACE_MARK + text
        return text.rstrip(SPACE_MARK) if self._remove_extra else text

    def _replace(self, data: bytes, table: _CharacterMap) -> str:
        replaced, at = bytearray(), 0
        while at < len(data):
            kept = self._user.longest_prefix(data, at)
            if kept is not None:
                replaced += data[at : kept[0]]
                at = kept[0]
                continue
            end, new = table.longest(data, at)
            if end == at:
                lead = data[at]
                end += 1 if lead < 0xC0 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
                new = data[at:end]
            replaced += new
            at = end
        return replaced.decode("utf-8", "replace")


class _CharacterMap:
    """A precompiled table of replacements: a double array over UTF-8, then the new texts, each ended by a zero."""

    def __init__(self, packed: bytes) -> None:
        try:
            (num_bytes,) = struct.unpack_from("<I", packed)
            if num_bytes % 4 or not 0 < num_bytes <= len(packed) - 4:
                raise ValueError(f"its table has {num_bytes} bytes")
        except (struct.error, ValueError) as wrong:
            raise ModelLoadError(f"the tokenizer's table of characters is damaged ({wrong}); fetch it again") from wrong
        self._units: list[int] = np.frombuffer(packed, "<u4", num_bytes // 4, 4).tolist()
        self._texts = packed[4 + num_bytes :]

    def longest(self, data: bytes, start: int) -> tuple[int, bytes]:
        """The end of the longest sequence that is replaced, and by what; ``start`` itself where none is."""
        units = self._units
        node = _offset(units[0])
        end, value = start, -1
        for at in range(start, len(data)):
            node ^= data[at]
            if node >= len(units) or units[node] & LABEL_BITS != data[at]:
                break
            unit = units[node]
            node ^= _offset(unit)
            if unit & LEAF_BIT and node < len(units):
                end, value = at + 1, units[node] & (1 << 31) - 1
        if value < 0:
            return start, b""
        stop = self._texts.find(b"\0", value)
        return end, self._texts[value : stop if stop >= 0 else len(self._texts)]


def _offset(unit: int) -> int:
    return (unit >> 10) << ((unit & WIDE_BIT) >> 6)
