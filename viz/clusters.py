"""Groups of passages that lie together: HDBSCAN, which leaves what lies between the groups in none."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.data.scenes import NOISE

__all__ = ["cluster", "smallest_cluster"]

SHARE, FEWEST, MOST = 80, 6, 150


def smallest_cluster(count: int) -> int:
    """Passages that make a cluster in a book of so many: an eightieth, so that names remain few enough to be read."""
    return min(max(count // SHARE, FEWEST), MOST)


def cluster(space: NDArray[np.float32], smallest: int | None = None) -> NDArray[np.int32]:
    """The number of each passage's cluster, the largest first, or ``NOISE``.

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

    found = HDBSCAN(min_cluster_size=smallest, min_samples=min(smallest, 10), copy=True).fit_predict(
        space.astype(np.float64)
    )
    numbers, first, sizes = np.unique(found[found >= 0], return_index=True, return_counts=True)
    # Of equal sizes the one that the reader meets first.
    for rank, place in enumerate(np.lexsort((first, -sizes))):
        labels[found == numbers[place]] = rank
    return labels
