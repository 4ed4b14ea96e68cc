"""Bring decoded text to the one form that offsets count in.

Nothing but line ends and a byte-order mark is altered, so for a file without such oddities the result is the file's
own text.
"""

from __future__ import annotations

import re

from core.data.text import Language

__all__ = ["language_of", "normalise"]

_LINE_ENDS = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
_SPACELESS = re.compile("[\u3041-\u30fa\u3400-\u9fff\uf900-\ufaff\u0e01-\u0e3a\U00020000-\U0003ffff]")
_WORDS = re.compile(r"[^\W\d_\u0e01-\u0e3a\u3041-\u30fa\u3400-\u9fff]+")
_LOOK_CHARS = 20_000


def normalise(text: str) -> str:
    """The text with ``\\n`` at every line end and without a byte-order mark at its beginning."""
    return _LINE_ENDS.sub("\n", text.removeprefix("\ufeff"))


def language_of(text: str) -> Language:
    """``"zh"`` if most of the text is in a script without spaces, else ``"en"``.

    A Chinese character says about as much as a word, so characters are counted against words.
    """
    middle = max(0, len(text) // 2 - _LOOK_CHARS // 2)
    looked_at = text[:_LOOK_CHARS] + text[middle : middle + _LOOK_CHARS] + text[-_LOOK_CHARS:]
    spaceless = len(_SPACELESS.findall(looked_at))
    return "zh" if spaceless and spaceless >= len(_WORDS.findall(looked_at)) else "en"
