"""What a search returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from core.data.text import Span

__all__ = ["Coverage", "ScoredChunk", "SearchResult"]


@dataclass(frozen=True, slots=True)
class ScoredChunk:
    """A passage found.

    Attributes:
        chunk_id: id of the parent chunk.
        span: of the passage in the novel's text; ``text`` equals the text at that span.
        score: fused score, larger is better; comparable within one search only.
        lexical_rank, dense_rank: rank in each leg, from 1; None where the leg did not find it.
        similarity: best cosine of a child with the question; None where it has no vector yet.
    """

    chunk_id: str
    chapter: int
    chapter_title: str
    span: Span
    text: str
    score: float
    lexical_rank: int | None = None
    dense_rank: int | None = None
    similarity: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "chapter": self.chapter,
            "chapter_title": self.chapter_title,
            "start": self.span.start,
            "end": self.span.end,
            "text": self.text,
            "score": round(self.score, 6),
        }


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of the book each kind of search could see.

    Attributes:
        dense_done, dense_total: child chunks with vectors, and in all.
    """

    dense_done: int
    dense_total: int

    @property
    def is_complete(self) -> bool:
        return self.dense_done >= self.dense_total


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Passages, best first, and what was searched to find them."""

    passages: tuple[ScoredChunk, ...]
    coverage: Coverage
