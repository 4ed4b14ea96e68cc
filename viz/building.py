"""From passages with vectors to a map: places, clusters, names, true neighbours, trust."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from core.data.passages import PassageTable
from core.data.scenes import NOISE, ClusterFacts, Scene, SceneFacts
from viz.aside import words_aside
from viz.clusters import cluster, smallest_cluster
from viz.naming import name_clusters
from viz.nearest import nearest, trust_of, unit_rows
from viz.projection import Progress, ProjectionSettings, project

__all__ = ["BuildSettings", "build_scene"]

TRUST_K = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSettings:
    """How a map is made.

    Attributes:
        smallest_cluster: passages that make a cluster; None lets the book's length decide.
        neighbours_kept: true neighbours stored for each passage.
    """

    projection: ProjectionSettings = field(default_factory=ProjectionSettings)
    smallest_cluster: int | None = None
    neighbours_kept: int = 10


def build_scene(
    passages: PassageTable, settings: BuildSettings, on_progress: Progress = lambda stage, done, total: None
) -> tuple[Scene, str]:
    """The map of these passages, and why it was not made by UMAP; the same passages give the same map.

    Args:
        on_progress: hears (stage, done, total); what it raises stops the work, and nothing is kept of it.
    """
    count = len(passages)
    vectors = unit_rows(passages.vectors)
    with words_aside(passages.texts, passages.language) as words:
        placed = project(_without_common_part(vectors), settings.projection, on_progress)
        on_progress("clusters", 0, 1)
        clusters = cluster(placed.space, settings.smallest_cluster)
        on_progress("names", 0, 1)
        named: tuple[ClusterFacts, ...] = ()
        if (clusters != NOISE).any():
            named = name_clusters(clusters.tolist(), passages.chapters.tolist(), words())
    neighbours, similarities = _neighbours(vectors, settings.neighbours_kept, on_progress)
    trust_k = min(TRUST_K, (count - 1) // 2)
    trust = trust_of(vectors, placed.points, trust_k, lambda done, total: on_progress("trust", done, total))
    parameters = {**placed.parameters, "smallest_cluster": settings.smallest_cluster or smallest_cluster(count)}
    facts = SceneFacts(
        title=passages.title,
        book=passages.book,
        key=passages.key,
        language=passages.language,
        method=placed.method,
        parameters=parameters,
        trust_k=trust_k,
        trustworthiness=float(trust.mean()),
        clusters=named,
    )
    scene = Scene(
        facts=facts,
        ids=passages.ids,
        texts=passages.texts,
        chapter_titles=passages.chapter_titles,
        chapters=passages.chapters,
        spans=passages.spans,
        positions=np.linspace(0, 1, count, dtype=np.float32),
        points=placed.points,
        clusters=clusters,
        trust=trust,
        neighbours=neighbours,
        similarities=similarities,
        vectors=passages.vectors,
    )
    return scene, placed.reason


def _without_common_part(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """What each vector says beyond what all of them say, with length 1.

    Embeddings of one model, and more so of one book, share a direction that tells nothing; without it the map of a
    novel of 2,360 passages was trustworthy to .86 and not .85, and a sixth fewer lay in no cluster.

    Source:
        J. Mu and P. Viswanath, "All-but-the-top: simple and effective postprocessing for word representations", 2018.
    """
    beyond = unit_rows(vectors - vectors.mean(axis=0, dtype=np.float64).astype(np.float32))
    # Copies of one passage have nothing beyond; rounding would give them directions all the same.
    is_same = np.allclose(vectors, vectors[:1], atol=1e-6)
    return vectors if is_same else beyond


def _neighbours(
    vectors: NDArray[np.float32], wanted: int, on_progress: Progress
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    k = min(wanted, len(vectors) - 1)
    if k < 1:
        return np.zeros((len(vectors), 0), np.int32), np.zeros((len(vectors), 0), np.float32)
    return nearest(vectors, k, lambda done, total: on_progress("neighbours", done, total))
