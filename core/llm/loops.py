"""Whether a small model has begun to say the same thing again and again; it does not find out of that by itself."""

from __future__ import annotations

__all__ = ["is_looping"]

REPEATS, RUN_CHARS = 3, range(2, 25)


def is_looping(text: str) -> bool:
    """Whether the text ends in the same run of characters several times over."""
    return any(text.endswith(text[-chars:] * REPEATS) for chars in RUN_CHARS if len(text) > chars * REPEATS)
