"""A map from vectors: places, clusters and their names, on data whose groups are known."""

import json
import subprocess
import sys

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from core.data.passages import PassageTable
from core.data.scenes import NOISE, Scene
from viz.building import BuildSettings, build_scene
from viz.clusters import cluster, smallest_cluster
from viz.naming import name_clusters
from viz.nearest import unit_rows
from viz.projection import ProjectionSettings, project

THEMES = ("铁匠打铁", "渔夫打鱼", "书生读书", "将军点兵", "和尚念经")


def passages(vectors, texts=None):
    count = len(vectors)
    texts = texts or [f"第{row}段。" for row in range(count)]
    starts = np.arange(count) * 10
    return PassageTable(
        ids=tuple(f"{row:05d}" for row in range(count)),
        texts=tuple(texts),
        chapters=(np.arange(count) // 10 + 1).astype(np.int32),
        chapter_titles=tuple(f"第{row // 10 + 1}回" for row in range(count)),
        spans=np.stack([starts, starts + 10], axis=1).astype(np.int64),
        vectors=np.asarray(vectors, np.float32),
        title="山中记",
    )


def planted(count, dim=48, seed=5):
    """Vectors in five groups, as embeddings lie: all near one direction."""
    random = np.random.default_rng(seed)
    groups = np.arange(count) % len(THEMES)
    centres = random.normal(size=(len(THEMES), dim))
    return 6 + centres[groups] + 0.35 * random.normal(size=(count, dim)), groups


@pytest.fixture(scope="module")
def mapped():
    """A map by UMAP of 300 passages in five groups, two of them twice."""
    vectors, groups = planted(300)
    vectors[7], vectors[11] = vectors[2], vectors[1]
    texts = [f"这一天{THEMES[group]}，{THEMES[group][:2]}不说话。" for group in groups]
    table = passages(vectors, texts)
    scene, reason = build_scene(table, BuildSettings())
    return table, groups, scene, reason


def test_umap_finds_the_groups_and_puts_them_apart(mapped):
    _, groups, scene, reason = mapped
    assert scene.facts.method == "umap" and reason == ""
    assert adjusted_rand_score(groups, scene.clusters) > 0.95
    assert scene.facts.trustworthiness > 0.8
    assert np.linalg.norm(scene.points, axis=1).max() == pytest.approx(1, abs=1e-5)


def test_clusters_are_named_after_what_their_passages_are_about(mapped):
    _, groups, scene, _ = mapped
    for facts in scene.facts.clusters:
        theme = THEMES[groups[np.flatnonzero(scene.clusters == facts.number)[0]]]
        assert theme[:2] in facts.name()


def test_a_second_map_of_the_same_passages_is_the_same(mapped):
    table, _, scene, _ = mapped
    again, _ = build_scene(table, BuildSettings())
    np.testing.assert_allclose(again.points, scene.points, atol=1e-5)
    assert (again.clusters == scene.clusters).all() and again.facts == scene.facts


def test_copies_of_a_passage_lie_in_one_place_and_are_each_others_neighbours(mapped):
    _, _, scene, _ = mapped
    assert (scene.points[7] == scene.points[2]).all() and scene.clusters[7] == scene.clusters[2]
    assert scene.neighbours[7, 0] == 2 and scene.similarities[7, 0] == pytest.approx(1, abs=1e-6)


def test_a_map_survives_its_file(mapped, tmp_path):
    _, _, scene, _ = mapped
    scene.write(tmp_path / "m.parquet")
    read = Scene.read(tmp_path / "m.parquet", with_vectors=True)
    assert read.facts == scene.facts == Scene.read_facts(tmp_path / "m.parquet")
    for name in ("points", "clusters", "trust", "neighbours", "similarities", "vectors"):
        assert (getattr(read, name) == getattr(scene, name)).all()


def test_what_progress_raises_stops_the_work_at_once():
    class Enough(Exception):
        pass

    heard = []

    def stop(stage, done, total):
        heard.append(stage)
        if stage == "map" and done:
            raise Enough

    with pytest.raises(Enough):
        build_scene(passages(planted(120)[0]), BuildSettings(), stop)
    assert "clusters" not in heard


@pytest.mark.parametrize("count", [1, 2, 3, 12])
@pytest.mark.parametrize("kind", ["different", "identical", "zero"])
def test_few_or_equal_passages_make_a_map_by_pca_that_says_why(count, kind):
    vectors = planted(count)[0] if kind == "different" else np.full((count, 8), 0.0 if kind == "zero" else 0.3)
    scene, reason = build_scene(passages(vectors), BuildSettings())
    assert len(scene) == count and scene.facts.method == "pca" and "too few" in reason
    if kind != "different":
        assert (scene.points == 0).all() and (scene.clusters == NOISE).all()


def test_a_hundred_copies_of_one_passage_make_one_place():
    scene, reason = build_scene(passages(np.full((100, 16), 0.25)), BuildSettings())
    assert (scene.points == 0).all() and (scene.clusters == NOISE).all() and "1 different passages" in reason


def test_without_scikit_learn_one_sentence_says_what_to_install_and_no_map_is_left(tmp_path):
    passages(planted(60)[0]).write(tmp_path / "p.parquet")
    code = (
        "import sys; sys.modules['sklearn'] = None; from viz.__main__ import main; "
        f"sys.exit(main(['build', {str(tmp_path / 'p.parquet')!r}, {str(tmp_path / 'm.parquet')!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=120)
    assert done.returncode == 1 and "novelscope[viz]" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr and not (tmp_path / "m.parquet").exists()


def test_without_umap_learn_the_map_is_made_by_pca_and_the_command_says_so(tmp_path):
    passages(planted(60)[0]).write(tmp_path / "p.parquet")
    code = (
        "import sys; sys.modules['umap'] = None; from viz.__main__ import main; "
        f"sys.exit(main(['build', {str(tmp_path / 'p.parquet')!r}, {str(tmp_path / 'm.parquet')!r}, '--json']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=120)
    assert done.returncode == 0 and "umap-learn is not installed" in done.stderr
    assert json.loads(done.stdout)["method"] == "pca" and Scene.read_facts(tmp_path / "m.parquet").method == "pca"


def test_pca_lays_passages_along_the_directions_of_a_singular_value_decomposition():
    vectors = unit_rows(planted(80)[0].astype(np.float32))
    placed = project(vectors, ProjectionSettings(method="pca"), lambda stage, done, total: None)
    left, sizes, _ = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    for axis, main in ((0, 0), (2, 1), (1, 2)):  # the widest along x, the next along z
        assert abs(np.corrcoef(placed.points[:, axis], left[:, main] * sizes[main])[0, 1]) == pytest.approx(1, abs=1e-4)


def test_the_largest_cluster_is_the_first():
    random = np.random.default_rng(1)
    space = np.concatenate([random.normal(place, 0.05, (size, 4)) for place, size in ((0, 20), (5, 60), (9, 35))])
    labels = cluster(space.astype(np.float32), 10)
    assert np.bincount(labels[labels >= 0]).tolist() == [60, 35, 20] and labels[30] == 0


def test_a_long_book_has_larger_clusters_than_a_short_one():
    assert [smallest_cluster(count) for count in (10, 107, 2500, 70_000)] == [6, 6, 25, 700]


def test_a_word_is_known_from_the_chapter_in_which_its_cluster_first_has_it():
    words = [["虎", "山"], ["虎", "酒"], ["虎", "酒"], ["船"], ["船"], ["船"]]
    (tigers, boats) = name_clusters([0, 0, 0, 1, 1, 1], [1, 2, 3, 4, 5, 6], words)
    assert dict(tigers.words)["虎"] == 1 and dict(boats.words)["船"] == 4
    assert boats.name(until_chapter=3) == "" and boats.name() == "船"


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_seventy_thousand_passages_make_a_map():
    vectors, groups = planted(70_000, dim=384)
    scene, reason = build_scene(passages(vectors), BuildSettings())
    assert len(scene) == 70_000 and not reason
    assert adjusted_rand_score(groups, scene.clusters) > 0.3  # HDBSCAN's leaves divide large groups
