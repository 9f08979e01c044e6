"""Paired tests against scipy, by enumeration, and by how often they raise a false alarm."""

import itertools

import numpy as np
import pytest
from scipy import stats

from cmcr.numbers import difference_interval, holm, mcnemar, permutation_test, significance


def hits(wins, losses, both=0, neither=0):
    one = [1] * wins + [0] * losses + [1] * both + [0] * neither
    other = [0] * wins + [1] * losses + [1] * both + [0] * neither
    return np.array(one, bool), np.array(other, bool)


@pytest.mark.parametrize(
    ("wins", "losses"), [(0, 0), (1, 0), (5, 0), (3, 3), (4, 3), (14, 3), (54, 5), (2000, 2150), (30_000, 31_000)]
)
def test_mcnemar_is_the_binomial_test_of_the_queries_that_differ(wins, losses):
    one, other = hits(wins, losses, both=20, neither=7)
    expected = stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert mcnemar(one, other) == pytest.approx(expected, rel=1e-8)
    assert mcnemar(other, one) == mcnemar(one, other)


def test_the_permutation_test_of_few_pairs_counts_every_exchange():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=10), rng.normal(size=10) - 0.5
    signs = np.array(list(itertools.product([-1, 1], repeat=10)))
    expected = np.mean(np.abs(signs @ (x - y)) >= abs((x - y).sum()) - 1e-12)
    assert permutation_test(x, y) == pytest.approx(expected)
    scipys = stats.permutation_test(
        (x, y), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=np.inf
    ).pvalue
    assert permutation_test(x, y) == pytest.approx(scipys)


def test_the_drawn_permutation_test_agrees_with_mcnemar_on_hits(monkeypatch):
    one, other = hits(40, 22, both=50, neither=50)
    monkeypatch.setattr(significance, "CHUNK", 1000)
    drawn = permutation_test(one, other, samples=20_000, seed=3)
    assert drawn == pytest.approx(mcnemar(one, other), abs=0.005)
    assert drawn == permutation_test(one, other, samples=20_000, seed=3)
    assert drawn != permutation_test(one, other, samples=20_000, seed=4)


def test_equal_scores_never_differ_and_a_certain_difference_is_never_p_zero():
    x = np.arange(40.0)
    assert permutation_test(x, x) == mcnemar(x > 3, x > 3) == 1
    assert permutation_test(x + 1, x, samples=999) == 1 / 1000
    assert difference_interval(x, x) == (0, 0)


def test_false_alarms_are_as_rare_as_promised():
    rng = np.random.default_rng(0)
    p = [permutation_test(*rng.normal(size=(2, 40)), samples=200, seed=n) for n in range(300)]
    assert 0.02 < np.mean(np.array(p) < 0.05) < 0.09


def test_the_interval_is_of_the_paired_difference():
    rng = np.random.default_rng(0)
    base = rng.normal(size=200) * 10
    low, high = difference_interval(base + 1 + 0.1 * rng.normal(size=200), base)
    assert 0.97 < low < 1 < high < 1.03  # unpaired, it would be some units wide


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []
