"""BM25 over a novel's parent chunks: built in a second, askable at once.

The index is bm25s's own, on disk in its own format; this module adds the terms of ``core.retrieval.tokens`` and the
bookmark. Which row is which chunk is the library's business: rows are in the order they were given.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import DamagedBook
from core.retrieval.tokens import index_terms, question_terms

__all__ = ["LexicalIndex"]

# Chosen on 126 questions over six novels: a low b, since chunks are of one length by construction.
K1, B = 0.9, 0.4


class LexicalIndex:
    """Scores every passage of one novel for a question."""

    def __init__(self, bm25: Any) -> None:
        self._bm25 = bm25

    @classmethod
    def build(cls, passages: Iterable[str], on_passage: Callable[[int], None] = lambda done: None) -> LexicalIndex:
        """Index passages; ``on_passage`` hears how many are tokenised so far."""
        bm25s = _library()
        vocabulary: dict[str, int] = {}
        rows = []
        for done, passage in enumerate(passages, 1):
            rows.append([vocabulary.setdefault(term, len(vocabulary)) for term in index_terms(passage)])
            on_passage(done)
        bm25 = bm25s.BM25(k1=K1, b=B, method="lucene", backend="numpy")
        bm25.index(bm25s.tokenization.Tokenized(ids=rows, vocab=vocabulary), show_progress=False)
        return cls(bm25)

    def save(self, folder: Path) -> None:
        """Write the index into ``folder``, which is made if it does not exist."""
        self._bm25.save(str(folder), show_progress=False)

    @classmethod
    def load(cls, folder: Path) -> LexicalIndex:
        """Read an index written by ``save``.

        Raises:
            DamagedBook: a file is missing or unreadable.
        """
        bm25s = _library()
        try:
            return cls(bm25s.BM25.load(str(folder), mmap=True, show_progress=False))
        except (OSError, ValueError, KeyError, TypeError) as wrong:
            raise DamagedBook(
                f"the lexical index in {folder} cannot be read ({wrong}); run: novelscope rebuild"
            ) from wrong

    @property
    def num_passages(self) -> int:
        """How many passages are indexed."""
        return int(self._bm25.scores["num_docs"])

    def known_share(self, question: str, rows: np.ndarray) -> float:
        """Share of the question's terms, weighed by their rarity, that occur in some of the passages.

        Args:
            rows: (num_passages,) bool, the passages that count.
        """
        weights, known = 0.0, 0.0
        for term in dict.fromkeys(question_terms(question)):
            holders = self._holders(term)
            weight = math.log(1 + (self.num_passages - len(holders) + 0.5) / (len(holders) + 0.5))
            weights += weight
            known += weight * bool(rows[holders].any())
        return known / weights if weights else 0.0

    def _holders(self, term: str) -> np.ndarray:
        column = self._bm25.vocab_dict.get(term)
        if column is None:
            return np.zeros(0, np.int64)
        start, stop = self._bm25.scores["indptr"][column : column + 2]
        holders: np.ndarray = self._bm25.scores["indices"][start:stop]
        return holders

    def scores(self, question: str) -> np.ndarray:
        """BM25 of every passage, (num_passages,) float32; all zeros when no term of the question occurs."""
        ids = self._bm25.get_tokens_ids(question_terms(question))
        if not ids:
            return np.zeros(self.num_passages, np.float32)
        scores: np.ndarray = self._bm25.get_scores_from_ids(ids)
        return scores


@cache
def _library() -> Any:
    """bm25s, without the numba that it would load where that is installed: most of a second, for a part not used."""
    is_loaded = "numba" in sys.modules
    if not is_loaded:
        sys.modules["numba"] = None  # type: ignore[assignment]  # makes an import of it fail
    try:
        import bm25s
        import bm25s.tokenization
    finally:
        if not is_loaded:
            del sys.modules["numba"]
    return bm25s
