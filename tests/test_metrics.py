"""Metrics against naive loops, closed forms and scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score, top_k_accuracy_score

from cmcr.numbers import retrieval as metrics


def unit(rng, n, dim):
    x = rng.standard_normal((n, dim)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def naive_rank(row, true):
    return 1 + sum(1 for j, score in enumerate(row) if j != true and score >= row[true])


@given(st.integers(0, 10_000), st.integers(1, 7), st.integers(1, 9))
def test_ranks_agree_with_a_naive_loop_on_scores_full_of_ties(seed, queries, gallery):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 3, (queries, gallery)).astype(np.float32)
    truth = rng.integers(0, gallery, queries)
    assert metrics.ranks_from_scores(scores, truth).tolist() == [
        naive_rank(r, t) for r, t in zip(scores, truth, strict=True)
    ]


@pytest.mark.parametrize("chunk", [1, 7, 50, 1024])
def test_ranks_do_not_depend_on_the_chunk_and_equal_vectors_tie_against_us(chunk):
    rng = np.random.default_rng(0)
    gallery = np.repeat(
        unit(rng, 25, 37), 4, axis=0
    )  # every vector four times: the true item is always last of its four
    got = metrics.ranks(gallery[:50], gallery, chunk=chunk)
    assert got.tolist() == [4] * 50


def test_a_collapsed_space_ranks_last_and_nan_ranks_last():
    same = np.tile(unit(np.random.default_rng(0), 1, 5), (9, 1))
    assert metrics.ranks(same, same).tolist() == [9] * 9
    assert metrics.ranks_from_scores([[np.nan, 0.1, 0.2], [np.nan, 0.1, 0.2]], [0, 2]).tolist() == [3, 2]


def test_summaries_of_known_ranks():
    rank = np.array([1, 1, 3, 6, 11])
    assert [metrics.recall_at(rank, k) for k in (1, 5, 10, 11)] == [0.4, 0.6, 0.8, 1.0]
    assert metrics.median_rank(rank) == 3.0
    assert metrics.mean_normalised_rank(rank, 11) == pytest.approx(np.mean([0, 0, 0.2, 0.5, 1]))
    assert metrics.chance_recall(200, 10) == 0.05
    assert metrics.chance_recall(5, 10) == 1.0


def test_the_normalised_rank_is_one_minus_the_area_under_the_roc():
    rng = np.random.default_rng(1)
    scores, truth = rng.random((8, 30)), rng.integers(0, 30, 8)
    areas = [roc_auc_score(np.arange(30) == t, row) for row, t in zip(scores, truth, strict=True)]
    normalised = metrics.mean_normalised_rank(metrics.ranks_from_scores(scores, truth), 30)
    assert 1 - normalised == pytest.approx(np.mean(areas))


@given(st.integers(0, 10_000))
def test_average_precision_agrees_with_scikit_learn_also_on_ties(seed):
    rng = np.random.default_rng(seed)
    scores, relevant = rng.integers(0, 6, (4, 15)).astype(float), rng.random((4, 15)) < 0.3
    relevant[:, 0] = True
    expected = [average_precision_score(r, s) for r, s in zip(relevant, scores, strict=True)]
    np.testing.assert_allclose(metrics.average_precision(scores, relevant), expected, atol=1e-12)


def test_average_precision_without_a_relevant_item_is_nan_and_with_one_is_the_reciprocal_rank():
    assert np.isnan(metrics.average_precision([[0.1, 0.2]], [[False, False]])[0])
    assert metrics.average_precision([[0.5, 0.5, 0.1]], [[True, False, False]])[0] == 0.5


def test_mean_average_precision_by_label_leaves_out_queries_without_a_relevant_item():
    queries, gallery = np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)
    got = metrics.mean_average_precision(queries, gallery, ["a", "b", "z"], ["a", "c", "b"], chunk=2)
    # "a" finds its item first; "b" scores 1 on "c" and 0 on both others, so its item counts as third; "z" has none
    assert got == pytest.approx((1 + 1 / 3) / 2)


def test_top_k_accuracy_agrees_with_scikit_learn():
    rng = np.random.default_rng(2)
    scores, truth = rng.random((40, 6)), rng.integers(0, 6, 40)
    order = np.argsort(-scores, axis=1)
    for k in (1, 3):
        expected = top_k_accuracy_score(truth, scores, k=k, labels=range(6))
        assert metrics.top_k_accuracy(order, truth, k) == pytest.approx(expected)


def test_the_modality_gap_is_the_distance_of_the_centres():
    a, b = np.array([[1, 0], [0, 1]], np.float32), np.array([[-1, 0], [0, -1]], np.float32)
    assert metrics.modality_gap(a, a) == 0
    assert metrics.modality_gap(a, b) == pytest.approx(np.sqrt(2))


def test_the_bootstrap_is_seeded_and_covers_a_known_proportion():
    hits = np.arange(400) < 100
    low, high = metrics.bootstrap(hits)
    assert (low, high) == metrics.bootstrap(hits)
    normal = 1.96 * np.sqrt(0.25 * 0.75 / 400)
    assert low == pytest.approx(0.25 - normal, abs=0.01)
    assert high == pytest.approx(0.25 + normal, abs=0.01)
