"""Names of clusters: the words that tell a cluster from the rest of the book.

Class-based tf-idf over telling words. Counted is in how many of a cluster's passages a word stands, so that one
passage that repeats a word does not name its whole cluster.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from core.data.scenes import NOISE, ClusterFacts

__all__ = ["name_clusters"]

WORDS_KEPT = 8
FEWEST_PASSAGES, LEAST_SHARE = 3, 0.04
LEAST_LIFT = 1.6
"""A word that is hardly more frequent in a cluster than in the whole book tells nothing of it."""


def name_clusters(
    clusters: Sequence[int], chapters: Sequence[int], words: Iterable[Sequence[str]]
) -> tuple[ClusterFacts, ...]:
    """The clusters with their telling words, best first.

    Args:
        clusters: number of each passage's cluster, from 0, or ``NOISE``.
        chapters: of each passage.
        words: telling words of each passage.

    Source:
        M. Grootendorst, "BERTopic: Neural topic modeling with a class-based TF-IDF procedure", 2022, section 3.3.
    """
    sizes = Counter(number for number in clusters if number != NOISE)
    counts: dict[int, Counter[str]] = {number: Counter() for number in sizes}
    first: dict[tuple[int, str], int] = {}
    everywhere = Counter[str]()
    total = 0
    for number, chapter, present in zip(clusters, chapters, map(set, words), strict=True):
        total += 1
        everywhere.update(present)
        if number != NOISE:
            counts[number].update(present)
            for word in present:
                first[number, word] = min(chapter, first.get((number, word), chapter))
    # Average of the words of a cluster, as the source has it, of passages counted once for each word.
    mean_words = sum(everywhere.values()) / max(len(sizes), 1)
    facts = []
    for number in sorted(sizes):
        least = max(min(FEWEST_PASSAGES, sizes[number]), LEAST_SHARE * sizes[number])
        scores = {
            word: count / sizes[number] * math.log(1 + mean_words / everywhere[word])
            for word, count in counts[number].items()
            if count >= least and (len(sizes) < 2 or count * total >= LEAST_LIFT * everywhere[word] * sizes[number])
        }
        best = sorted(scores, key=lambda word: (-scores[word], word))
        kept = _unlike(best)
        facts.append(ClusterFacts(number, sizes[number], tuple((word, first[number, word]) for word in kept)))
    return tuple(facts)


def _unlike(words: Sequence[str]) -> list[str]:
    """The first words of which none holds another."""
    kept: list[str] = []
    for word in words:
        if not any(word in other or other in word for other in kept):
            kept.append(word)
        if len(kept) == WORDS_KEPT:
            break
    return kept
