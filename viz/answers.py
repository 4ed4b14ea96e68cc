"""A question's answer on the map: which passages were found, in which order, and where the question belongs.

The application searches; what it found arrives as JSON (``docs/map.md``), and is matched to passages by the
characters that both cover.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.data.scenes import Scene
from core.errors import SettingsError

__all__ = ["Answer", "Hit", "read_answer"]


@dataclass(frozen=True, slots=True)
class Hit:
    """One place that a search found.

    Attributes:
        rank: from 1 among the places found, and on among the near misses.
        rows: the passages that share characters with it, in reading order.
        main: the passage that shares most.
        is_near: whether it just missed.
    """

    rank: int
    score: float
    start: int
    end: int
    rows: tuple[int, ...]
    main: int
    is_near: bool


@dataclass(frozen=True)
class Answer:
    """A question and the places found, best first; places that the reader may not see are left out."""

    question: str
    hits: tuple[Hit, ...]

    @cached_property
    def scores(self) -> dict[int, float]:
        """Score of every row found, the best where two places share a passage."""
        scores: dict[int, float] = {}
        for hit in self.hits:
            for row in hit.rows:
                scores[row] = max(hit.score, scores.get(row, -math.inf))
        return scores

    @property
    def found(self) -> tuple[Hit, ...]:
        return tuple(hit for hit in self.hits if not hit.is_near)

    @property
    def near(self) -> tuple[Hit, ...]:
        return tuple(hit for hit in self.hits if hit.is_near)

    def place(self, scene: Scene) -> NDArray[np.float64] | None:
        """Where the question's mark stands: the mean of the passages found, weighted by score; an approximation."""
        if not self.found:
            return None
        scores = np.array([hit.score for hit in self.found])
        # Scores of several kinds of search occur, also negative ones; only their differences count.
        weights = scores - scores.min() + 0.25 * max(1e-9, float(np.ptp(scores)))
        return np.average(scene.points[[hit.main for hit in self.found]].astype(np.float64), axis=0, weights=weights)

    def to_dict(self) -> dict[str, Any]:
        """The JSON that ``read_answer`` takes."""
        passages = [{"start": hit.start, "end": hit.end, "score": hit.score, "near": hit.is_near} for hit in self.hits]
        return {"question": self.question, "passages": passages}


def read_answer(source: Path | dict[str, Any], scene: Scene, until_chapter: int | None = None) -> Answer | None:
    """The answer in a file, or in a value that came as JSON, as rows of ``scene``.

    Returns:
        None where the answer names another book.

    Raises:
        SettingsError: it is not of that form, or says what went wrong.
    """
    try:
        fields = json.loads(source.read_text(encoding="utf-8")) if isinstance(source, Path) else source
        if "error" in fields:
            raise SettingsError(str(fields["error"]))
        if fields.get("book") and scene.facts.book and fields["book"] != scene.facts.book:
            return None
        readable = scene.readable(until_chapter)
        hits: list[Hit] = []
        for passage in fields["passages"]:
            start, end, score = int(passage["start"]), int(passage["end"]), float(passage["score"])
            if not math.isfinite(score):
                raise ValueError(f"score {score}")
            rows = [row for row in scene.rows_within(start, end) if readable[row]]
            if not rows:
                continue
            shared = np.minimum(scene.spans[rows, 1], end) - np.maximum(scene.spans[rows, 0], start)
            is_near = bool(passage.get("near", False))
            main = rows[int(np.argmax(shared))]
            hits.append(Hit(len(hits) + 1, score, start, end, tuple(rows), main, is_near))
        return Answer(str(fields["question"]), tuple(hits))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as wrong:
        if isinstance(wrong, SettingsError):
            raise
        raise SettingsError(
            f"the answer cannot be read ({wrong}); wanted question and passages, as docs/map.md says"
        ) from wrong
