"""Whether the passages found have anything to do with the question."""

from __future__ import annotations

from core.retrieval.book_folder import BookFolder
from core.retrieval.results import SearchResult

__all__ = ["is_answerable"]


def is_answerable(book: BookFolder, question: str, found: SearchResult, *, until_chapter: int | None) -> bool:
    """False when the book plainly does not speak of what is asked."""
    return bool(found.passages)
