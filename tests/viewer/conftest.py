"""A small made-up map, a GL context without a screen, and the right to skip where there is none."""

from collections.abc import Callable

import numpy as np
import pytest

from core.data.scenes import ClusterFacts, Scene, SceneFacts
from core.errors import GraphicsError
from viz.context import open_headless
from viz.renderer import Renderer

PER_CHAPTER = 10
CHARS = 100


def make_scene(points: np.ndarray, clusters: np.ndarray | None = None) -> Scene:
    """Passages of 100 characters, ten a chapter, at these points; neighbours by distance on the map."""
    points = np.asarray(points, np.float32)
    count = len(points)
    clusters = np.zeros(count, np.int32) if clusters is None else np.asarray(clusters, np.int32)
    numbers = sorted(set(clusters.tolist()) - {-1})
    starts = np.arange(count, dtype=np.int64) * CHARS
    chapters = (np.arange(count) // PER_CHAPTER + 1).astype(np.int32)
    k = min(5, count - 1)
    if count > 400:
        k = 0
    nearest = np.empty((count, k), np.int32)
    for row in range(count if k else 0):
        order = np.argsort(np.linalg.norm(points - points[row], axis=1), kind="stable")
        nearest[row] = order[order != row][:k]
    facts = SceneFacts(
        title="山中记",
        book="0123456789abcdef",
        clusters=tuple(
            ClusterFacts(n, int((clusters == n).sum()), ((f"词{n}", 1), (f"后来{n}", 99), (f"山{n}", 1)))
            for n in numbers
        ),
    )
    return Scene(
        facts=facts,
        ids=tuple(f"{chapter:04d}-{i:05d}" for i, chapter in enumerate(chapters)),
        texts=tuple(f"第{i}段。" + "山" * (CHARS - 5) for i in range(count)),
        chapter_titles=tuple(f"第{chapter}回" for chapter in chapters),
        chapters=chapters,
        spans=np.stack([starts, starts + CHARS], axis=1),
        positions=np.linspace(0, 1, count, dtype=np.float32),
        points=points,
        clusters=clusters,
        trust=np.linspace(0.5, 1, count, dtype=np.float32),
        neighbours=nearest,
        similarities=np.full((count, k), 0.9, np.float32),
    )


@pytest.fixture
def cloud() -> Scene:
    """200 passages in four clusters and some noise."""
    random = np.random.default_rng(7)
    centres = np.array([[0.6, 0, 0], [-0.5, 0.4, 0.1], [0, -0.6, -0.2], [0, 0.1, 0.6]])
    clusters = random.integers(-1, 4, 200)
    points = np.where(clusters[:, None] >= 0, centres[clusters], 0) + random.normal(0, 0.08, (200, 3))
    return make_scene(points, clusters)


@pytest.fixture
def scene_of() -> Callable[..., Scene]:
    return make_scene


@pytest.fixture(scope="session")
def gl():
    try:
        return open_headless()
    except GraphicsError as wrong:
        pytest.skip(f"nothing can be drawn here: {wrong}")


@pytest.fixture
def renderer(gl):
    made = Renderer(gl)
    yield made
    made.release()


@pytest.fixture
def scene_file(cloud, tmp_path):
    path = tmp_path / "map.parquet"
    cloud.write(path)
    return path
