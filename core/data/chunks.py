"""Cut chapters into children, the passages that are searched, and parents, the passages that are read.

Children tile a chapter: each character that is not white space lies in exactly one. Borders fall where a reader
would pause, and lengths stay near the wanted one; both are weighed together over the whole chapter, so that no
small rest is left at its end. Nothing here looks for headings or computes a vector.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from core.data.sentences import sentences, stripped_span
from core.data.text import Chapter, Chunk, Language, Span
from core.errors import SettingsError

__all__ = ["ChunkSet", "ChunkSettings", "Parent", "split_chunks"]

# What a border costs, in the unit of one chunk that is off by its whole wanted length.
_PARAGRAPH_COST, _SENTENCE_COST, _CLAUSE_COST, _FORCED_COST = 0.0, 0.06, 1.0, 3.0
_LONGEST_RATIO = 1.5
_TINY_RATIO, _TINY_COST = 1 / 3, 2.0
_HEADING_CHARS = 80
# Pieces shorter than this part of a child are joined beforehand: a border between them is worth little, and a text
# of single-character lines would otherwise take minutes.
_CRUMBS_PER_CHILD = 20

_SEMICOLONS, _COMMAS = "；;：:—", "，,、"
_JOINERS = "\u200c\u200d"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkSettings:
    """How a chapter is cut. Lengths are characters, since tokens differ by model.

    Attributes:
        language: how sentences are found, ``"zh"`` or ``"en"``.
        child_chars: the wanted length of a child; most have two thirds to four thirds of it.
        parent_children: how many neighbouring children a parent spans.
    """

    language: Language = "zh"
    child_chars: int = 300
    parent_children: int = 2

    def __post_init__(self) -> None:
        if self.child_chars < 16:
            raise SettingsError(f"child_chars is {self.child_chars}, wanted 16 or more")
        if self.parent_children < 1:
            raise SettingsError(f"parent_children is {self.parent_children}, wanted 1 or more")

    @classmethod
    def for_language(cls, language: Language) -> ChunkSettings:
        """Settings under which a child says about as much in every language."""
        return cls(language=language, child_chars=300 if language == "zh" else 900)


@dataclass(frozen=True, slots=True)
class Parent(Chunk):
    """Neighbouring children of one chapter, read together.

    Attributes:
        children: half-open range of child indexes.
    """

    children: tuple[int, int]


@dataclass(frozen=True, slots=True)
class ChunkSet:
    """All chunks of a novel, in reading order.

    Attributes:
        children: tile the chapters; ``children[i].index == i``.
        parents: windows that move by one child, so neighbours share all but one of theirs.
    """

    children: tuple[Chunk, ...]
    parents: tuple[Parent, ...]


@dataclass(frozen=True, slots=True)
class _Piece:
    """What is never cut again, and the cost of a border behind it."""

    start: int
    end: int
    border_cost: float


def split_chunks(novel_text: str, chapters: Sequence[Chapter], settings: ChunkSettings) -> ChunkSet:
    """Children and parents of every chapter; none crosses a chapter's border."""
    children: list[Chunk] = []
    parents: list[Parent] = []
    for chapter in chapters:
        first = len(children)
        pieces = _pieces(novel_text, chapter.span, settings)
        for span in _balanced(pieces, settings.child_chars):
            index = len(children)
            children.append(Chunk(f"{chapter.number:04d}-{index:05d}", index, chapter.number, span))
        count = len(children) - first
        width = min(settings.parent_children, count)
        for begin in range(first, len(children) - width + 1 if count else first):
            index = len(parents)
            span = Span(children[begin].span.start, children[begin + width - 1].span.end)
            key = f"{chapter.number:04d}-{index:05d}"
            parents.append(Parent(key, index, chapter.number, span, (begin, begin + width)))
    return ChunkSet(tuple(children), tuple(parents))


def _pieces(text: str, span: Span, settings: ChunkSettings) -> list[_Piece]:
    pieces: list[_Piece] = []
    for sentence in sentences(text, span.start, span.end, settings.language):
        pieces.extend(_cut(text, sentence, settings.child_chars))
    for at in range(len(pieces) - 1):
        this, following = pieces[at], pieces[at + 1]
        if this.border_cost == _SENTENCE_COST and "\n" in text[this.end : following.start]:
            pieces[at] = _Piece(this.start, this.end, _PARAGRAPH_COST)
    # A heading alone would be a child that matches every question about its words and tells nothing.
    pieces = _without_crumbs(pieces, settings.child_chars // _CRUMBS_PER_CHILD)
    longest = int(settings.child_chars * _LONGEST_RATIO)
    is_heading = len(pieces) > 1 and pieces[0].end - pieces[0].start <= _HEADING_CHARS
    if is_heading and pieces[1].end - pieces[0].start <= longest:
        pieces[:2] = [_Piece(pieces[0].start, pieces[1].end, pieces[1].border_cost)]
    return pieces


def _without_crumbs(pieces: Sequence[_Piece], crumb_chars: int) -> list[_Piece]:
    joined: list[_Piece] = []
    for piece in pieces:
        if (
            joined
            and joined[-1].end - joined[-1].start < crumb_chars
            and piece.end - joined[-1].start <= 2 * crumb_chars
        ):
            joined[-1] = _Piece(joined[-1].start, piece.end, piece.border_cost)
        else:
            joined.append(piece)
    return joined


def _cut(text: str, sentence: Span, limit: int) -> Iterator[_Piece]:
    """The sentence in pieces of at most ``limit`` characters, cut where it hurts least."""
    start = sentence.start
    while sentence.end - start > limit:
        # Halves of a sentence that is a little too long are better than a whole and a rest.
        rest = sentence.end - start
        wanted = limit if rest >= 2 * limit else rest // 2 + 1
        at, cost = _best_cut(text, start, min(start + limit, sentence.end), start + wanted)
        span = stripped_span(text, start, at)
        if span is not None:
            yield _Piece(span.start, span.end, cost)
        start = at
    span = stripped_span(text, start, sentence.end)
    if span is not None:
        yield _Piece(span.start, span.end, _SENTENCE_COST)


def _best_cut(text: str, start: int, end: int, wanted: int) -> tuple[int, float]:
    earliest = start + max(1, (end - start) // 3)
    for marks in (_SEMICOLONS, _COMMAS):
        places = [at for at in range(earliest, end + 1) if text[at - 1] in marks and _is_boundary(text, at)]
        if places:
            return min(places, key=lambda at: abs(at - wanted)), _CLAUSE_COST
    places = [at for at in range(earliest, end) if text[at].isspace() and _is_boundary(text, at + 1)]
    if places:
        return min(places, key=lambda at: abs(at - wanted)), _FORCED_COST
    for at in (*range(wanted, earliest, -1), *range(wanted, end)):
        if _is_boundary(text, at):
            return at, _FORCED_COST
    return end, _FORCED_COST


def _is_boundary(text: str, at: int) -> bool:
    """Whether the characters around ``at`` are not parts of one written sign."""
    if not 0 < at < len(text):
        return True
    before, after = text[at - 1], text[at]
    if before in _JOINERS or after in _JOINERS or unicodedata.category(after)[0] == "M":
        return False
    return not ("\U0001f3fb" <= after <= "\U0001f3ff" or "\udc00" <= after <= "\udfff")


def _balanced(pieces: Sequence[_Piece], wanted: int) -> list[Span]:
    """Join pieces into spans so that the costs of lengths and borders together are least.

    The usual line-breaking recurrence: the best cut of the first ``n`` pieces ends with one span, and what is
    before that span is cut in the best way too.
    """
    longest = int(wanted * _LONGEST_RATIO)
    tiny = wanted * _TINY_RATIO
    best = [0.0]
    came_from = [0]
    starts = [piece.start for piece in pieces]
    for count, piece in enumerate(pieces, 1):
        least, source = float("inf"), count - 1
        for first in range(count - 1, -1, -1):
            length = piece.end - starts[first]
            if length > longest and first < count - 1:
                break
            off = (length - wanted) / wanted
            cost = best[first] + off * off + (_TINY_COST if length < tiny else 0.0)
            if cost < least:
                least, source = cost, first
        best.append(least + piece.border_cost)
        came_from.append(source)
    spans: list[Span] = []
    count = len(pieces)
    while count:
        spans.append(Span(starts[came_from[count]], pieces[count - 1].end))
        count = came_from[count]
    return spans[::-1]
