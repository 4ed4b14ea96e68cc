"""Places in space for passages: UMAP in three dimensions to look at and ten to cluster by, or PCA.

UMAP gets exact neighbours, a start by PCA and a fixed seed, so that a map comes out the same every time. Passages
with the same vector get the same place. Nothing here names or draws.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from viz.nearest import nearest

__all__ = ["Projection", "ProjectionSettings", "project"]

FEWEST_FOR_UMAP = 32
"""Different passages; of fewer, nearly all are neighbours of each other and UMAP has nothing to go by."""
SPACE_DIMS, PCA_SPACE_DIMS = 10, 50
START_SPREAD = 10.0

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectionSettings:
    """How places are found.

    Attributes:
        method: ``"umap"``, ``"pca"``, or ``"auto"``: UMAP where umap-learn is installed and there is enough to map.
        neighbours: that a passage is held near to; more of them give a smoother, less detailed map.
        min_dist: how close UMAP packs passages on the map; passages are packed tight for clustering in any case.
    """

    method: str = "auto"
    neighbours: int = 15
    min_dist: float = 0.12
    seed: int = 42


@dataclass(frozen=True, eq=False)
class Projection:
    """Where passages lie.

    Attributes:
        points: (n, 3) float32 within a sphere of radius 1 about the origin, the widest direction along x.
        space: (n, d) float32, for clustering.
        method: ``"umap"`` or ``"pca"``.
        reason: why it is PCA; empty where UMAP was used, or PCA was asked for.
        parameters: of the method.
    """

    points: NDArray[np.float32]
    space: NDArray[np.float32]
    method: str
    reason: str
    parameters: dict[str, str | int | float]


def project(vectors: NDArray[np.float32], settings: ProjectionSettings, on_progress: Progress) -> Projection:
    """Find a place for every vector.

    Args:
        vectors: (n, dim), of length 1.
        on_progress: hears (stage, done, total); what it raises stops the work.
    """
    distinct, back = _distinct(vectors)
    method, reason = settings.method, ""
    if method == "auto":
        reason = _why_not_umap(len(distinct))
        method = "pca" if reason else "umap"
    if method == "umap":
        parameters: dict[str, str | int | float] = {
            "metric": "cosine", "neighbours": settings.neighbours, "min_dist": settings.min_dist,
            "seed": settings.seed, "cluster_dims": SPACE_DIMS,
        }  # fmt: skip
        points, space = _by_umap(distinct, settings, on_progress)
    else:
        parameters = {"cluster_dims": PCA_SPACE_DIMS}
        points, space = _by_pca(distinct, 3), _by_pca(distinct, PCA_SPACE_DIMS)
    placed = _into_sphere(points)[back]
    return Projection(placed, space[back].astype(np.float32), method, reason, parameters)


def _distinct(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Each vector once, in the order of its first row, and which of them each row is.

    Exact duplicates would give UMAP neighbours at distance zero, among which its result is no longer repeatable.
    """
    keys = np.ascontiguousarray(vectors).view(np.dtype((np.void, vectors.itemsize * vectors.shape[1]))).ravel()
    _, first, back = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return vectors[first[order]], rank[back.ravel()]


def _why_not_umap(count: int) -> str:
    if count < FEWEST_FOR_UMAP:
        return f"{count} different passages are too few for UMAP, which wants {FEWEST_FOR_UMAP}"
    if importlib.util.find_spec("umap") is None:
        return "umap-learn is not installed; install it with: pip install 'novelscope[viz]'"
    return ""


def _by_umap(
    vectors: NDArray[np.float32], settings: ProjectionSettings, on_progress: Progress
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    k = min(settings.neighbours, len(vectors) - 1)
    rows, cosines = nearest(vectors, k - 1, lambda done, total: on_progress("neighbours", done, total))
    on_progress("umap", 0, 1)  # importing it compiles for some seconds
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import umap
    # UMAP counts a point as its own first neighbour.
    own = np.arange(len(vectors), dtype=np.int32)[:, None]
    knn = np.hstack([own, rows]), np.hstack([np.zeros_like(own, np.float32), np.maximum(1 - cosines, 0)])

    def fit(dims: int, min_dist: float, stage: str) -> NDArray[np.float32]:
        mapper = umap.UMAP(
            n_components=dims, n_neighbors=k, min_dist=min_dist, metric="cosine", init=_start(vectors, dims),
            random_state=settings.seed, n_jobs=1, precomputed_knn=knn,
            tqdm_kwds={"disable": False, "file": _Epochs(stage, on_progress), "bar_format": "{n} {total}",
                       "mininterval": 0.2},
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that rows given later cannot be placed; nobody will ask
            return np.asarray(mapper.fit_transform(vectors), np.float32)

    return fit(3, settings.min_dist, "map"), fit(min(SPACE_DIMS, vectors.shape[1]), 0.0, "space for clusters")


def _start(vectors: NDArray[np.float32], dims: int) -> NDArray[np.float32]:
    """The main directions: a start that keeps what is far apart in the book far apart on the map."""
    start = _by_pca(vectors, dims)
    return start * np.float32(START_SPREAD / max(float(np.abs(start).max()), 1e-12))


class _Epochs:
    """The file that UMAP's progress bar believes it writes to."""

    def __init__(self, stage: str, on_progress: Progress) -> None:
        self._stage, self._on_progress = stage, on_progress

    def write(self, text: str) -> None:
        numbers = text.split()
        if len(numbers) == 2 and all(number.isdecimal() for number in numbers):
            self._on_progress(self._stage, int(numbers[0]), int(numbers[1]))

    def flush(self) -> None:
        pass


def _by_pca(vectors: NDArray[np.float32], dims: int) -> NDArray[np.float32]:
    """The first main components, (n, dims) float32, zeros where there are fewer."""
    from sklearn.decomposition import PCA

    found = np.zeros((len(vectors), dims), np.float32)
    most = min(dims, len(vectors) - 1, vectors.shape[1])
    if most > 0:
        found[:, :most] = PCA(most, svd_solver="covariance_eigh").fit_transform(vectors.astype(np.float64))
    return found


def _into_sphere(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Moved, turned and scaled: the widest direction along x, the next along z, the least along y, which is up."""
    turned: NDArray[Any] = _by_pca(points, 3)[:, [0, 2, 1]].astype(np.float64)
    middle = (turned.max(axis=0) + turned.min(axis=0)) / 2
    moved = turned - middle
    reach = float(np.linalg.norm(moved, axis=1).max())
    return (moved / reach if reach > 0 else moved).astype(np.float32)
