"""Whether a book plainly does not speak of what is asked, decided before a model is asked to make something up.

Two signs count against a question: no passage is near it, and its words do not occur in the book. The thresholds
were chosen on the 65 development questions, questions about other books, and questions about phones, coffee and other
people's heroes. ``python -m benchmarks refusals`` counts who passes: 54 of 55 real Chinese questions, 22 of 55 about
another book, 3 of 20 that no old novel can answer. What passes still has to find a sentence that supports its answer.
"""

from __future__ import annotations

import numpy as np

from core.chains.prompts import language_of
from core.retrieval.book_folder import BookFolder
from core.retrieval.embedders import DEFAULT_EMBEDDER
from core.retrieval.results import SearchResult

__all__ = ["is_answerable"]

UNKNOWN_WEIGHT = 0.05
MIN_NEARNESS = {"zh": 0.847, "en": 0.81}
# Without vectors only words can tell, and paraphrases share few of them: refuse only where nearly all are missing.
MIN_FAMILIARITY = {"zh": -0.45, "en": -0.35}


def is_answerable(
    book: BookFolder, question: str, found: SearchResult, *, embedder: str, until_chapter: int | None
) -> bool:
    """False when the book, as far as it may be read, plainly does not speak of what is asked.

    Args:
        embedder: whose similarities ``found`` holds; cosines of one model say nothing about another's.
    """
    if not found.passages:
        return False
    language = book.record.language
    if language_of(question) != language:
        return True  # words of another language are never in the book
    allowed = np.ones(len(book.chunks.parents), bool)
    if until_chapter is not None:
        allowed = book.parent_chapters <= until_chapter
    unknown = 1.0 - book.lexical.known_share(question, allowed)
    similarities = [passage.similarity for passage in found.passages if passage.similarity is not None]
    if found.coverage.is_complete and similarities and embedder == DEFAULT_EMBEDDER:
        return max(similarities) - UNKNOWN_WEIGHT * unknown >= MIN_NEARNESS[language]
    rows = [row for row, parent in enumerate(book.chunks.parents) if parent.id in {p.chunk_id for p in found.passages}]
    best = max(book.lexical.known_share(question, np.arange(len(allowed)) == row) for row in rows)
    return best - unknown >= MIN_FAMILIARITY[language]
