"""Guess the next tokens from what the text says already: an answer about a book often quotes the evidence.

Source:
    prompt lookup decoding (github.com/apoorvumang/prompt-lookup-decoding).
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["find_draft"]

LONGEST_MATCH, SHORTEST_MATCH = 4, 2


def find_draft(ids: Sequence[int], num_tokens: int) -> list[int]:
    """What followed the last place where the final tokens stood before; empty where they never did.

    Args:
        num_tokens: the most that are wanted.
    """
    for length in range(min(LONGEST_MATCH, len(ids) - 1), SHORTEST_MATCH - 1, -1):
        tail = list(ids[-length:])
        for start in range(len(ids) - length - 1, -1, -1):
            if ids[start] == tail[0] and list(ids[start : start + length]) == tail:
                return list(ids[start + length : start + length + num_tokens])
    return []
