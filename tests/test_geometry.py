"""Geometry against naive loops, closed forms and scipy; and hubs that were planted are found."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.neighbors import NearestNeighbors
from worlds import unit

from cmcr.numbers import alignment, effective_rank, geometry, hubness, uniformity
from cmcr.numbers.geometry import k_occurrence, modality_gap


def sphere(count, dim, seed=0):
    return unit(np.random.default_rng(seed).normal(size=(count, dim)))


def test_uniformity_agrees_with_a_naive_loop_whatever_the_chunk(monkeypatch):
    x = sphere(40, 5)
    weights = [np.exp(-2 * np.sum((x[i] - x[j]) ** 2)) for i in range(40) for j in range(40) if i != j]
    assert uniformity(x) == pytest.approx(np.log(np.mean(weights)), abs=1e-6)
    whole = uniformity(x)
    monkeypatch.setattr(geometry, "CHUNK", 7)
    assert uniformity(x) == pytest.approx(whole, abs=1e-12)


def test_uniformity_of_known_shapes():
    assert uniformity(np.repeat(sphere(1, 8), 20, axis=0)) == pytest.approx(0, abs=1e-6)
    assert uniformity(np.array([[1, 0], [-1, 0]], np.float32)) == pytest.approx(-8)
    assert uniformity(np.eye(6, dtype=np.float32)) == pytest.approx(-4)
    # On the sphere in three dimensions the cosine is uniform in [-1, 1]: E exp(-4 (1 - c)) = (1 - exp(-8)) / 8.
    assert uniformity(sphere(4000, 3)) == pytest.approx(np.log((1 - np.exp(-8)) / 8), abs=0.01)


def test_alignment_is_the_mean_squared_distance_of_pairs():
    x, y = sphere(30, 6), sphere(30, 6, 1)
    assert alignment(x, x) == 0
    assert alignment(x, -x) == pytest.approx(4)
    assert alignment(x, y) == pytest.approx(
        np.mean([np.sum((a - b) ** 2) for a, b in zip(x, y, strict=True)]), rel=1e-5
    )
    assert alignment(x, y, power=1) == pytest.approx(np.mean(np.linalg.norm(x - y, axis=1)), rel=1e-5)


def test_effective_rank_of_known_matrices():
    assert effective_rank(np.eye(7, dtype=np.float32)) == pytest.approx(7)
    assert effective_rank(np.repeat(sphere(1, 9), 5, axis=0)) == pytest.approx(1, abs=1e-4)
    rows = np.vstack([np.repeat([[1, 0, 0]], 9, axis=0), [[0, 1, 0]]]).astype(np.float32)  # singular values 3 and 1
    assert effective_rank(rows) == pytest.approx(np.exp(stats.entropy([0.75, 0.25])))
    assert effective_rank(sphere(3000, 16)) == pytest.approx(16, abs=0.1)


def test_effective_rank_agrees_with_scipy():
    x = sphere(25, 10)
    assert effective_rank(x) == pytest.approx(np.exp(stats.entropy(np.linalg.svd(x)[1])), rel=1e-6)


def test_k_occurrence_agrees_with_scikit_learn_and_leaves_a_row_out_of_its_own_list(monkeypatch):
    monkeypatch.setattr(geometry, "CHUNK", 16)
    x, queries = sphere(60, 8), sphere(35, 8, 1)
    nearest = NearestNeighbors(n_neighbors=5).fit(x)
    within = np.bincount(nearest.kneighbors(return_distance=False).ravel(), minlength=60)
    across = np.bincount(nearest.kneighbors(queries, return_distance=False).ravel(), minlength=60)
    assert np.array_equal(k_occurrence(x, k=5), within)
    assert np.array_equal(k_occurrence(x, queries, k=5), across)


def test_hubness_agrees_with_scipys_skew():
    x = sphere(80, 30)
    found = hubness(x, k=10)
    counts = k_occurrence(x, k=10)
    assert found.skewness == pytest.approx(stats.skew(counts))
    assert found.anti_hubs == np.mean(counts == 0)


def test_planted_hubs_raise_hubness_and_leave_anti_hubs():
    rng, plain = np.random.default_rng(0), sphere(300, 40)
    hubs = unit(plain.mean(axis=0) * 30 + 0.05 * rng.normal(size=(10, 40)))
    offset = unit(plain + hubs.mean(axis=0))
    before, after = hubness(plain, k=10), hubness(np.vstack([offset, hubs]).astype(np.float32), k=10)
    assert after.skewness > before.skewness + 1
    assert after.anti_hubs > before.anti_hubs + 0.1
    assert k_occurrence(np.vstack([offset, hubs]).astype(np.float32), k=10)[-10:].min() > 100


def test_rows_that_tie_share_their_places():
    same = np.repeat(sphere(1, 4), 30, axis=0)
    assert np.allclose(k_occurrence(same, k=10), 10)
    assert hubness(same, k=10) == geometry.Hubness(0.0, 0.0)


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_counts_follow_their_rows_into_any_order(seed):
    rng = np.random.default_rng(seed)
    x = sphere(25, 3, seed)[rng.integers(0, 25, 40)]  # some rows twice
    order = rng.permutation(40)
    assert np.allclose(k_occurrence(x, k=4)[order], k_occurrence(x[order], k=4))
    assert k_occurrence(x, k=4).sum() == pytest.approx(160)


def test_the_gap_is_the_one_of_metrics():
    from cmcr.numbers import retrieval as metrics

    assert modality_gap is metrics.modality_gap
