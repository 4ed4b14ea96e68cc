"""What the families' published code does to a finished reply, done to one that is still being written.

Each function takes pieces of text and gives one piece for each, some of them empty, and what is left at the end. Only
what a later piece could change is held back. Nothing here knows tokens.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

__all__ = ["drop_metadata_line", "full_width_marks", "name_training_date", "strip_ends", "strip_start"]

TRAINING_DATE, DATE = "[[训练时间]]", "2023年"
MARKS = {",": "，", "!": "！", ":": "：", ";": "；", "?": "？"}
HAN = re.compile("[\u4e00-\u9fff]")
MOST_METADATA_CHARS = 64


def strip_start(pieces: Iterator[str]) -> Iterator[str]:
    """Without white space at the start."""
    has_begun = False
    for piece in pieces:
        text = piece if has_begun else piece.lstrip()
        has_begun = has_begun or bool(text)
        yield text


def strip_ends(pieces: Iterator[str]) -> Iterator[str]:
    """Without white space at the start and at the end."""
    held = ""
    for piece in strip_start(pieces):
        text = held + piece
        kept = text.rstrip()
        held = text[len(kept) :]
        yield kept


def name_training_date(pieces: Iterator[str]) -> Iterator[str]:
    """With the year in the place of the mark that ChatGLM writes for it."""

    def ready(text: str) -> int:
        for length in range(min(len(text), len(TRAINING_DATE) - 1), 0, -1):
            if TRAINING_DATE.startswith(text[-length:]):
                return len(text) - length
        return len(text)

    return _rewritten(pieces, lambda text: text.replace(TRAINING_DATE, DATE), ready)


def full_width_marks(pieces: Iterator[str]) -> Iterator[str]:
    """With full-width marks where a Chinese character stands before or after them."""
    before = ""
    held = ""
    for piece in pieces:
        text, held, out = held + piece, "", []
        for at, character in enumerate(text):
            if character in MARKS and not HAN.fullmatch(before):
                if at + 1 == len(text):
                    held = character
                    break
                character = MARKS[character] if HAN.fullmatch(text[at + 1]) else character
            elif character in MARKS:
                character = MARKS[character]
            out.append(character)
            before = character
        yield "".join(out)
    if held:
        yield held


def drop_metadata_line(pieces: Iterator[str]) -> Iterator[str]:
    """Without the first line where it is empty; a tool's name stays, since it says what the rest is."""
    held, is_past = "", False
    for piece in pieces:
        if is_past:
            yield piece
            continue
        held += piece
        line, newline, rest = held.partition("\n")
        if newline or len(held) > MOST_METADATA_CHARS:
            is_past = True
            yield rest if newline and not line.strip() else held
        else:
            yield ""
    if not is_past and held:
        yield held


def _rewritten(pieces: Iterator[str], rewrite: Callable[[str], str], ready: Callable[[str], int]) -> Iterator[str]:
    held = ""
    for piece in pieces:
        text = held + piece
        stop = ready(text)
        held = text[stop:]
        yield rewrite(text[:stop])
    if held:
        yield rewrite(held)
