"""True neighbours and trust, against scikit-learn."""

import numpy as np
import pytest
from sklearn.manifold import trustworthiness
from sklearn.neighbors import NearestNeighbors

from viz import nearest as module
from viz.nearest import nearest, trust_of, unit_rows


@pytest.fixture
def vectors():
    return unit_rows(np.random.default_rng(3).normal(size=(300, 24)).astype(np.float32))


@pytest.mark.parametrize("block", [1 << 25, 1000])
def test_neighbours_are_those_of_scikit_learn(vectors, block, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_NUMBERS", block)
    rows, cosines = nearest(vectors, 12)
    finder = NearestNeighbors(n_neighbors=13, metric="cosine", algorithm="brute").fit(vectors)
    distances, found = finder.kneighbors(vectors)
    assert (rows == found[:, 1:]).all()
    np.testing.assert_allclose(1 - cosines, distances[:, 1:], atol=1e-6)


def test_of_equal_neighbours_the_earlier_comes_first():
    rows, cosines = nearest(np.ones((5, 1), np.float32), 3)
    assert rows.tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2], [0, 1, 2]] and (cosines == 1).all()


@pytest.mark.parametrize("k", [1, 5, 15, 40])
def test_the_mean_trust_is_scikit_learns_trustworthiness(vectors, k):
    points = vectors[:, :3] + 0.1 * vectors[:, 3:6]
    wanted = trustworthiness(vectors, points, n_neighbors=k, metric="cosine")
    assert trust_of(vectors, points, k).mean() == pytest.approx(wanted, abs=1e-6)


def test_trust_is_whole_where_nothing_is_lost_and_low_where_a_passage_is_misplaced():
    line = np.linspace(0, 1.5, 60)
    vectors = np.stack([np.cos(line), np.sin(line), 0 * line], axis=1).astype(np.float32)
    points = vectors.copy()
    assert trust_of(vectors, points, 5).min() > 0.99  # rounding may change the order of two
    points[0] = points[50]
    trust = trust_of(vectors, points, 5)
    assert trust[0] < 0.5 < trust[20] and trust.argmin() == 0


def test_a_vector_without_direction_stays_as_it_is():
    assert unit_rows(np.array([[0, 0], [3, 4]], np.float32)).tolist() == [
        [0, 0],
        [pytest.approx(0.6), pytest.approx(0.8)],
    ]
