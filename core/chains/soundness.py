"""Whether a small model's summary can be shown: it does not run in circles, and it speaks of what it read.

A model of a few hundred million parameters often does neither; the book's own telling sentences then serve better.
Nothing here knows a model.
"""

from __future__ import annotations

from core.retrieval.tokens import index_terms

__all__ = ["is_sound"]

LEAST_CHARS = 8
ENOUGH_CHARS = 24
"""Shorter than this, "he went into the garden" is a detail of a chapter, and a summary of a paragraph at most."""
SOURCE_PER_CHAR = 10
"""So many characters of a short source ask for one of its summary."""
LEAST_VARIETY = 0.65
"""Of all runs of four characters, so many must be different; a loop of a dozen characters gives a third."""
LEAST_SHARE = 0.6
"""Of the summary's terms, so many must stand in what was read: examples of the prompt give a quarter."""


def is_sound(summary: str, source: str) -> bool:
    """Whether the summary of the source is worth showing."""
    if len(summary) < max(LEAST_CHARS, min(ENOUGH_CHARS, len(source) // SOURCE_PER_CHAR)):
        return False
    runs = [summary[at : at + 4] for at in range(len(summary) - 3)]
    if len(set(runs)) < LEAST_VARIETY * len(runs):
        return False
    terms, known = set(index_terms(summary)), set(index_terms(source))
    return bool(terms) and len(terms & known) >= LEAST_SHARE * len(terms)
