"""Groups of passages that lie together: HDBSCAN, which leaves in none what lies between the groups."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from core.data.scenes import NOISE

__all__ = ["cluster", "smallest_cluster"]

FEWEST, SHARE = 6, 100
MOST_IN_ONE = 2 / 3
NEAR, MOST_OF_NEAR = 15, 6


def smallest_cluster(count: int) -> int:
    """Passages that make a cluster in a book of so many, so that a short book has some and a long one not too many."""
    return max(FEWEST, math.isqrt(count) // 2, count // SHARE)


def cluster(space: NDArray[np.float32], smallest: int | None = None) -> NDArray[np.int32]:
    """The number of each passage's cluster, the largest first, or ``NOISE``.

    HDBSCAN's usual choice from its tree, by excess of mass, is taken unless the tree's leaves leave fewer passages out,
    or it makes one cluster of most of the book, as happens to novels of one tone. A passage between clusters then
    joins the one that holds 6 of its 15 nearest, and more of them than any other.

    Args:
        space: (n, d), where near means alike.
        smallest: passages that make a cluster; None lets the book's length decide.

    Source:
        R. Campello, D. Moulavi, J. Sander, "Density-based clustering based on hierarchical density estimates", 2013.
    """
    count = len(space)
    smallest = smallest or smallest_cluster(count)
    labels = np.full(count, NOISE, np.int32)
    # A cloud without extent, as of copies of one passage, has no density to compare.
    if count < 2 * smallest or not np.ptp(space, axis=0).any():
        return labels
    from sklearn.cluster import HDBSCAN

    wide = space.astype(np.float64)

    def chosen(method: str) -> NDArray[np.int64]:
        maker = HDBSCAN(min_cluster_size=max(2, smallest), min_samples=3, cluster_selection_method=method, copy=True)
        return np.asarray(maker.fit_predict(wide), np.int64)

    by_mass, leaves = chosen("eom"), chosen("leaf")
    is_one_mass = np.bincount(by_mass[by_mass >= 0], minlength=1).max() > MOST_IN_ONE * count
    found = _joined(wide, leaves if is_one_mass or (by_mass < 0).sum() > (leaves < 0).sum() else by_mass)
    numbers, first, sizes = np.unique(found[found >= 0], return_index=True, return_counts=True)
    # Of equal sizes the one that the reader meets first.
    for rank, place in enumerate(np.lexsort((first, -sizes))):
        labels[found == numbers[place]] = rank
    return labels


def _joined(space: NDArray[np.float64], found: NDArray[np.int64]) -> NDArray[np.int64]:
    """The labels, with those of passages between clusters where a cluster is clearly the nearest."""
    from scipy.spatial import KDTree

    loose = np.flatnonzero(found < 0)
    if not len(loose) or len(loose) == len(found):
        return found
    _, near = KDTree(space).query(space[loose], k=min(NEAR + 1, len(space)))
    labels = found.copy()
    for row, neighbours in zip(loose, found[near], strict=True):
        counts = np.bincount(neighbours[neighbours >= 0], minlength=1)
        if counts.max() >= MOST_OF_NEAR:
            labels[row] = counts.argmax()
    return labels
