"""True neighbours of every passage, and how far a picture of them can be trusted.

Exact, in blocks of rows: even 70,000 passages fit in memory, and two runs find the same. Nothing here projects.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["nearest", "trust_of", "unit_rows"]

BLOCK_NUMBERS = 1 << 25  # similarities held at once: 128 MB
Counter = Callable[[int, int], None]


def unit_rows(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vectors with length 1, (n, dim) float32; one without a direction stays zero."""
    wide = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    return np.divide(wide, lengths, out=np.zeros_like(wide), where=lengths > 0).astype(np.float32)


def nearest(
    vectors: NDArray[np.float32], k: int, on_progress: Counter = lambda done, total: None
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The k rows most similar to each row, itself left out, best first; of equals the earlier.

    Args:
        vectors: (n, dim), of length 1, n > k.

    Returns:
        Rows, (n, k) int32, and their cosines, (n, k) float32.
    """
    count = len(vectors)
    rows = np.empty((count, k), np.int32)
    cosines = np.empty((count, k), np.float32)
    for start, similarities in _blocks(vectors):
        stop = start + len(similarities)
        found = np.argpartition(-similarities, k - 1, axis=1)[:, :k]
        values = np.take_along_axis(similarities, found, axis=1)
        order = np.lexsort((found, -values), axis=1)
        rows[start:stop] = np.take_along_axis(found, order, axis=1)
        cosines[start:stop] = np.take_along_axis(values, order, axis=1)
        on_progress(stop, count)
    return rows, np.clip(cosines, -1, 1)


def trust_of(
    vectors: NDArray[np.float32],
    points: NDArray[np.float32],
    k: int,
    on_progress: Counter = lambda done, total: None,
) -> NDArray[np.float32]:
    """How far each passage's neighbours on the map are its neighbours in truth: 1 all of them, 0 as wrong as can be.

    A neighbour on the map that is not among the k true ones costs as much as its true rank lies beyond k. The mean
    over all passages is the map's trustworthiness.

    Args:
        vectors: (n, dim), of length 1.
        points: (n, 3).
        k: neighbours looked at, below n / 2, or there is nothing to be wrong about.

    Returns:
        (n,) float32.

    Source:
        J. Venna and S. Kaski, "Neighborhood preservation in nonlinear projection methods", ICANN 2001.
    """
    count = len(vectors)
    if k < 1 or 2 * k >= count:
        return np.ones(count, np.float32)
    seen = _nearest_points(points, k)
    worst = k * (2 * count - 3 * k - 1) / 2
    trust = np.empty(count, np.float64)
    for start, similarities in _blocks(vectors):
        stop = start + len(similarities)
        own = np.take_along_axis(similarities, seen[start:stop], axis=1)
        # Ranks count what is nearer; of passages that are equally near, none is put before another.
        ranks = np.stack([np.count_nonzero(similarities > own[:, i : i + 1], axis=1) for i in range(k)], axis=1) + 1
        trust[start:stop] = 1 - np.maximum(ranks - k, 0).sum(axis=1) / worst
        on_progress(stop, count)
    return np.clip(trust, 0, 1).astype(np.float32)


def _blocks(vectors: NDArray[np.float32]):  # type: ignore[no-untyped-def]
    """(first row, similarities of some rows to all), a row to itself the least similar of all."""
    count = len(vectors)
    size = max(1, BLOCK_NUMBERS // count)
    for start in range(0, count, size):
        similarities = vectors[start : start + size] @ vectors.T
        own = np.arange(len(similarities))
        similarities[own, start + own] = -np.inf
        yield start, similarities


def _nearest_points(points: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    from scipy.spatial import KDTree

    _, found = KDTree(points).query(points, k=k + 1)
    rows = np.arange(len(points))
    # Where several passages share a point, a passage need not come first among its own neighbours, or at all.
    is_own = found == rows[:, None]
    is_own[~is_own.any(axis=1), k] = True
    return np.asarray(found[~is_own].reshape(len(points), k), np.int64)
