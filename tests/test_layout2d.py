"""PCA against scikit-learn; UMAP as far as it is asked for."""

import sys
from types import ModuleType

import numpy as np
import pytest
from sklearn.decomposition import PCA
from worlds import unit

from cmcr.errors import InputError, MissingExtraError
from cmcr.numbers.plane import pca, umap


def test_pca_agrees_with_scikit_learn_up_to_signs():
    x = unit(np.random.default_rng(0).normal(size=(60, 7)) * np.arange(1, 8))
    ours, shares = pca(x)
    theirs = PCA(2, svd_solver="full").fit(x.astype(np.float64))
    assert np.allclose(np.abs(ours), np.abs(theirs.transform(x.astype(np.float64))), atol=1e-6)
    assert shares == pytest.approx(theirs.explained_variance_ratio_, rel=1e-6)


def test_pca_does_not_turn_with_the_order_of_rows():
    x = unit(np.random.default_rng(1).normal(size=(50, 6)) * np.arange(1, 7))
    order = np.random.default_rng(2).permutation(50)
    assert np.allclose(pca(x)[0][order], pca(x[order])[0], atol=1e-9)


def test_what_has_no_second_direction_lies_on_a_line_or_a_point():
    point, shares = pca(np.repeat(unit(np.ones((1, 5))), 4, axis=0))
    assert not point.any()
    assert shares == (0.0, 0.0)
    line, shares = pca(np.array([[1, 0], [0, 1]], np.float32))
    assert not line[:, 1].any()
    assert shares == pytest.approx((1.0, 0.0))
    assert pca(np.eye(1, 3, dtype=np.float32))[0].tolist() == [[0.0, 0.0]]


def test_umap_is_asked_for_cosine_one_thread_and_the_seed(monkeypatch):
    asked = {}

    class UMAP:
        def __init__(self, **options):
            asked.update(options)

        def fit_transform(self, vectors):
            return vectors[:, :2]

    fake = ModuleType("umap")
    fake.UMAP = UMAP
    monkeypatch.setitem(sys.modules, "umap", fake)
    assert umap(np.eye(9, dtype=np.float32), seed=5).shape == (9, 2)
    assert asked == {"n_components": 2, "metric": "cosine", "n_neighbors": 8, "random_state": 5, "n_jobs": 1}
    with pytest.raises(InputError, match="4 rows; UMAP needs five"):
        umap(np.eye(4, dtype=np.float32))


def test_without_umap_its_pip_command_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'cmcr\[plot\]'"):
        umap(np.eye(9, dtype=np.float32))
