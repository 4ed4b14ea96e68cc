"""The values that describe a novel and places in it.

Every offset counts characters (Unicode code points) of the normalised text, half-open: [start, end).
Nothing here reads a file or splits a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Chapter", "Chunk", "Language", "Novel", "Span", "chapter_at"]

Language = str
"""``"zh"`` for scripts without spaces (Chinese, Japanese), ``"en"`` for scripts with spaces."""


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A half-open range of characters."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end:
            raise ValueError(f"span [{self.start}, {self.end}) is not a range")

    def __len__(self) -> int:
        return self.end - self.start

    def of(self, text: str) -> str:
        """The characters of ``text`` that the span covers."""
        return text[self.start : self.end]

    def overlap(self, other: Span) -> int:
        """Number of characters that both spans cover."""
        return max(0, min(self.end, other.end) - max(self.start, other.start))


@dataclass(frozen=True, slots=True)
class Chapter:
    """One chapter: its number in reading order, its heading line, and its span with the heading.

    Number 0 is the text before the first heading, if there is any worth keeping; chapters with headings count from 1.
    Where printed numbers grow through the book they are kept, so gaps may occur; ``core.data.chapters`` says how.
    """

    number: int
    title: str
    span: Span


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage of one chapter, never cutting a sentence where that can be avoided.

    Attributes:
        id: ``"{chapter:04d}-{index:05d}"``, unique within a novel and sorted in reading order.
        index: position among the novel's chunks of the same kind, from 0.
    """

    id: str
    index: int
    chapter: int
    span: Span


@dataclass(frozen=True, slots=True)
class Novel:
    """A decoded, normalised novel.

    Attributes:
        id: first 16 hexadecimal digits of the SHA-256 of the normalised text in UTF-8.
        encoding: what the bytes were decoded with, for example ``"gb18030"``.
        evidence: one sentence on why that encoding was chosen.
    """

    id: str
    title: str
    text: str
    language: Language
    chapters: tuple[Chapter, ...]
    encoding: str
    evidence: str

    def chapter_of(self, offset: int) -> Chapter:
        """The chapter that holds the character at ``offset``."""
        return chapter_at(self.chapters, offset)


def chapter_at(chapters: Sequence[Chapter], offset: int) -> Chapter:
    """The last chapter that begins at or before ``offset``; the first one for anything earlier."""
    low, high = 0, len(chapters) - 1
    while low < high:
        middle = (low + high + 1) // 2
        if chapters[middle].span.start <= offset:
            low = middle
        else:
            high = middle - 1
    return chapters[low]
