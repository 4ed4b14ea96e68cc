"""The few sentences of the evidence that a small model should read.

A model of a few hundred million parameters loses the thread in a thousand tokens, and each of them costs time. The
sentences that share most with the question, with their neighbours, hold the answer nearly as often as whole passages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from core.chains.citations import supported_share
from core.data.sentences import sentences
from core.data.text import Span
from core.llm.events import Passage
from core.retrieval.book_folder import BookFolder

__all__ = ["focus_passages"]


def focus_passages(book: BookFolder, passages: Sequence[Passage], question: str, max_chars: int) -> list[Passage]:
    """Parts of the passages, best passage first, of at most about ``max_chars`` characters together.

    Each part is a run of whole sentences; its ``Passage`` keeps the number of the passage it was cut from.
    """
    per_passage = max_chars // max(1, len(passages))
    parts = []
    for passage in passages:
        spans = list(sentences(book.text, passage.span.start, passage.span.end, book.record.language))
        span = _best_window(book.text, spans, question, per_passage)
        parts.append(replace(passage, span=span, text=span.of(book.text)))
    return parts


def _best_window(text: str, spans: Sequence[Span], question: str, max_chars: int) -> Span:
    """The run of sentences of at most ``max_chars`` that shares most with the question; at least one sentence."""
    shares = [supported_share(question, span.of(text)) for span in spans]
    best, best_score = spans[0], -1.0
    for first in range(len(spans)):
        last = first
        while last + 1 < len(spans) and spans[last + 1].end - spans[first].start <= max_chars:
            last += 1
        window = Span(spans[first].start, spans[last].end)
        # The whole window's share counts the question's words once, the sentences' shares say where they crowd.
        score = supported_share(question, window.of(text)) + 0.5 * sum(shares[first : last + 1]) / (last - first + 1)
        if score > best_score:
            best, best_score = window, score
    return best
