"""Caches of finished requests, kept for one that begins as they did: a second turn reads only what is new.

Nothing here computes.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from core.engine.cache import StaticCache
from core.model.config import DecoderConfig

__all__ = ["Kept", "KeptCaches"]

MAX_CACHES, MAX_BYTES = 4, 1 << 29
MIN_SHARED_TOKENS = 8


@dataclass(slots=True, eq=False)
class Kept:
    """A cache, and the ids it holds."""

    ids: list[int]
    cache: StaticCache


class KeptCaches:
    """The caches of the last few requests, bounded in number and in bytes."""

    def __init__(self, config: DecoderConfig, *, max_caches: int = MAX_CACHES) -> None:
        self._config, self._max_caches = config, max_caches
        self._kept: deque[Kept] = deque()
        self._guard = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def take(self, prompt: Sequence[int]) -> Kept | None:
        """The request that begins most like this prompt, cut to what they share; None if none does."""
        with self._guard:
            if not self._kept:
                return None
            shared, found = max(((_common(kept.ids, prompt), kept) for kept in self._kept), key=lambda pair: pair[0])
            # The last token of the prompt is always computed: its logits are wanted.
            shared = min(shared, len(prompt) - 1)
            if shared < MIN_SHARED_TOKENS:
                return None
            self._kept.remove(found)
        del found.ids[shared:]
        found.cache.crop(self._config.prefix_tokens + shared)
        return found

    def keep(self, kept: Kept) -> None:
        """Keep a finished request, and let the oldest go where there are too many."""
        # A bidirectional context has other keys for every text, so nothing of it can serve again.
        if self._config.is_prefix_lm:
            return
        with self._guard:
            self._kept.append(kept)
            while len(self._kept) > self._max_caches or sum(one.cache.num_bytes for one in self._kept) > MAX_BYTES:
                self._kept.popleft()

    def clear(self) -> None:
        """Forget them all."""
        with self._guard:
            self._kept.clear()


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    count = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        count += 1
    return count
