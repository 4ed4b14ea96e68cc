"""Lines of a given width, broken as Chinese and English are set: no line begins with a closing mark, no word is cut.

Dear ImGui breaks Chinese anywhere, which leaves commas and closing quotation marks at the beginning of lines.
"""

from __future__ import annotations

import re
from collections.abc import Callable

__all__ = ["fold"]

NEVER_FIRST = frozenset("，。、；：？！）》〉」』】〕”’…—·～,.;:?!)]}%")
NEVER_LAST = frozenset("（《〈「『【〔“‘([{")
# What may not be cut: a run of letters, digits and their marks, or a single other character.
_PIECE = re.compile(r"[^\W\u2e80-\U0003ffff]+(?:['\u2019\-][^\W\u2e80-\U0003ffff]+)*|.", re.DOTALL)


def fold(text: str, room: float, width_of: Callable[[str], float]) -> list[str]:
    """The text's lines, each at most ``room`` wide where that is possible.

    Args:
        width_of: of one character, in the unit of ``room``.
    """
    return [line for paragraph in text.split("\n") for line in _fold_paragraph(paragraph, room, width_of)]


def _fold_paragraph(text: str, room: float, width_of: Callable[[str], float]) -> list[str]:
    lines: list[str] = []
    line, used = "", 0.0
    for piece in _units(text):
        width = sum(map(width_of, piece))
        if line and used + _width(piece, width_of) > room:
            lines.append(line.rstrip())
            piece = piece.lstrip()
            line, used, width = "", 0.0, sum(map(width_of, piece))
        while width > room:  # a word longer than a line
            cut = max(1, _fitting(piece, room, width_of))
            lines.append(piece[:cut])
            piece = piece[cut:]
            width = sum(map(width_of, piece))
        line, used = line + piece, used + width
    return [*lines, line.rstrip()] if line or not lines else lines


def _width(piece: str, width_of: Callable[[str], float]) -> float:
    """Width without the spaces at the end, which may hang over the edge."""
    return sum(map(width_of, piece.rstrip()))


def _units(text: str) -> list[str]:
    """Pieces that stay together: openers with what follows them, closers and spaces with what precedes them."""
    units: list[str] = []
    for piece in _PIECE.findall(text):
        if units and (piece in NEVER_FIRST or piece.isspace() or units[-1][-1] in NEVER_LAST):
            units[-1] += piece
        else:
            units.append(piece)
    return units


def _fitting(piece: str, room: float, width_of: Callable[[str], float]) -> int:
    used = 0.0
    for index, char in enumerate(piece):
        used += width_of(char)
        if used > room:
            return index
    return len(piece)
