"""Information that is shared, unique, or only in both together: exact values, properties, and probes that see it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmcr.numbers import decomposition
from cmcr.numbers.calibration import fit_blend
from cmcr.numbers.decomposition import Parts, decompose, entropy, mutual_information, parts_of, union_information
from cmcr.numbers.discriminant import fit_discriminant, prepare
from cmcr.numbers.gaussian_parts import gaussian_informations, union_of_channels
from cmcr.numbers.products import fit_products, whiten


def gate(output, inputs=((0, 0), (0, 1), (1, 0), (1, 1)), classes=4):
    p = np.zeros((4, 4, classes))
    for a, b in inputs:
        p[a, b, output(a, b)] += 1 / len(inputs)
    return p


REDUNDANT_XOR = [(2 * r + a, 2 * r + b) for r in (0, 1) for a in (0, 1) for b in (0, 1)]
GATES = {
    "XOR": (gate(lambda a, b: a ^ b), (0, 0, 0, 1)),
    "AND": (gate(lambda a, b: a & b), (0.311, 0, 0, 0.5)),
    "COPY": (gate(lambda a, b: 2 * a + b), (0, 1, 1, 0)),
    "RDN": (gate(lambda a, b: a, [(0, 0), (1, 1)]), (1, 0, 0, 0)),
    "UNQ": (gate(lambda a, b: a), (0, 1, 0, 0)),
    "SUM": (gate(lambda a, b: a + b), (0.5, 0, 0, 1)),
    "RDNXOR": (gate(lambda a, b: a // 2 * 2 + (a ^ b) % 2, REDUNDANT_XOR), (1, 0, 0, 1)),
    "nothing": (np.full((2, 2, 2), 1 / 8), (0, 0, 0, 0)),
}


@pytest.mark.parametrize("name", GATES)
def test_known_gates(name):
    p, expected = GATES[name]
    found = decompose(p)
    assert found == pytest.approx(expected, abs=1e-3)
    swapped = decompose(p.transpose(1, 0, 2))
    assert swapped == pytest.approx((found[0], found[2], found[1], found[3]), abs=1e-3)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.floats(0.05, 2))
def test_parts_are_never_negative_and_sum_to_the_information(seed, k1, k2, classes, spread):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(k1 * k2 * classes, spread)).reshape(k1, k2, classes)
    found = decompose(p)
    total = mutual_information(p.reshape(-1, classes))
    assert min(found) >= 0
    assert found.total == pytest.approx(total, abs=1e-9)
    assert found.shared + found.first == pytest.approx(mutual_information(p.sum(axis=1)), abs=1e-4)
    assert found.shared + found.second == pytest.approx(mutual_information(p.sum(axis=0)), abs=1e-4)


def test_the_union_is_the_least_of_all_with_the_same_marginals():
    """Against a grid over every joint distribution of two bits and two classes: one free number a class."""
    rng = np.random.default_rng(1)
    for _ in range(5):
        one, two = rng.dirichlet([1, 1], 2).T, rng.dirichlet([1, 1], 2).T  # p(x|y), columns are classes
        y = rng.dirichlet([2, 2])
        grids = []
        for c in range(2):
            low, high = max(0, one[0, c] + two[0, c] - 1), min(one[0, c], two[0, c])
            a = np.linspace(low, high, 201)
            cells = [a, one[0, c] - a, two[0, c] - a, 1 - one[0, c] - two[0, c] + a]
            grids.append(y[c] * np.stack(cells).clip(0))
        joint = np.stack(np.broadcast_arrays(grids[0][:, :, None], grids[1][:, None, :]))  # (class, cell, 201, 201)
        xlogx = lambda p: (p * np.log2(np.maximum(p, 1e-300))).sum(axis=tuple(range(p.ndim - 2)))  # noqa: E731
        least = (entropy(y) + xlogx(joint) - xlogx(joint.sum(axis=0))).min()
        value, at = union_information(one * y, two * y)
        assert value == pytest.approx(least, abs=2e-4)
        assert np.allclose(at.sum(axis=2), (one * y).T, atol=1e-7) and np.allclose(
            at.sum(axis=1), (two * y).T, atol=1e-7
        )


def test_tables_that_are_nearly_certain_keep_their_marginals(monkeypatch):
    """What underflows in a step must not take a row of the table with it."""
    rng = np.random.default_rng(0)
    sharp = np.exp(40 * rng.normal(size=(2, 20, 12)))
    one, two = (each / each.sum(axis=0) / 12 for each in sharp)
    value, at = union_information(one, two)
    assert np.allclose(at.sum(axis=2), one.T, atol=1e-5) and np.allclose(at.sum(axis=1), two.T, atol=1e-5)
    assert max(map(mutual_information, (one, two))) - 1e-6 <= value <= entropy(np.full(12, 1 / 12)) + 1e-9


def test_a_start_nearby_changes_nothing_but_the_steps():
    p = np.random.default_rng(2).dirichlet(np.full(60, 0.3)).reshape(4, 5, 3)
    value, at = union_information(p.sum(axis=1), p.sum(axis=0))
    assert union_information(p.sum(axis=1), p.sum(axis=0), at)[0] == pytest.approx(value, abs=1e-5)


def test_estimates_that_contradict_each_other_are_made_consistent():
    assert parts_of(0.5, 0.4, 0.9, 0.7) == pytest.approx(Parts(0.2, 0.3, 0.2, 0))  # a union above the total
    assert parts_of(0.5, 0.4, 0.3, 0.2) == pytest.approx(Parts(0.4, 0.1, 0, 0))  # a total below a part
    assert parts_of(-0.1, 0.4, 0.4, 0.6) == pytest.approx(Parts(0, 0, 0.4, 0.2))


def test_one_gaussian_number_is_shared_as_far_as_the_weaker_knows_it():
    """For a single Gaussian Y, the shared part is the lesser information (Barrett, 2015)."""
    bits = [0.5 * np.log2(1 + h**2) for h in (1.5, 0.7)]
    union = union_of_channels(np.array([[1.5]]), np.array([[0.7]]))
    assert union == pytest.approx(max(bits), abs=1e-3)
    apart = union_of_channels(np.array([[1.5, 0.0]]), np.array([[0.0, 0.7]]))
    assert apart == pytest.approx(sum(bits), abs=1e-3)


def test_gaussian_parts_of_vectors():
    rng = np.random.default_rng(0)
    labels, noise = rng.integers(2, size=4000), rng.normal(size=(4000, 3))
    y = 2.0 * labels - 1
    alone = gaussian_informations(y[:, None] + noise[:, :1], noise[:, 1:2], labels, 2)
    assert alone.first == pytest.approx(0.5, abs=0.05) and alone.second < 0.01 and alone.total < alone.first + 0.01
    noisy = gaussian_informations(y[:, None] + 3 * noise[:, :1], noise[:, :1], labels, 2)  # one has the other's noise
    assert noisy.total > 1 and noisy.union < 0.2
    signs = gaussian_informations(noise[:, :1] * y[:, None], noise[:, :1], labels, 2)  # an exclusive or of signs
    assert signs.total < 0.01


def test_a_blend_claims_what_it_has():
    rng = np.random.default_rng(0)
    labels = rng.choice(3, size=600, p=[0.6, 0.3, 0.1])
    odds = np.stack([scale * (np.eye(3)[labels] + rng.normal(size=(600, 3))) for scale in (5.0, 0.2, -1.0)])
    blend = fit_blend(odds, labels)
    said = blend.probabilities(odds)
    assert said.mean(axis=0) == pytest.approx(np.bincount(labels) / 600, abs=1e-5)
    claimed = -(said * np.log(said)).sum(axis=1).mean()
    assert claimed == pytest.approx(-np.log(said[np.arange(600), labels]).mean(), abs=1e-5)
    assert blend.weights[2] == 0 < min(blend.weights[:2])  # what says the opposite counts nothing
    nothing = fit_blend(rng.normal(size=(1, 600, 3)), labels).probabilities(rng.normal(size=(1, 600, 3)))
    assert np.abs(nothing - nothing.mean(axis=0)).max() < 0.1


def test_a_blend_agrees_with_scipy():
    optimize = pytest.importorskip("scipy.optimize")
    rng = np.random.default_rng(3)
    labels, odds = rng.integers(3, size=80), rng.normal(size=(2, 80, 3))
    odds[0] += np.eye(3)[labels]

    def loss(at):
        z = np.tensordot(at[:2], odds, 1) + at[2:]
        return -(z[np.arange(80), labels] - np.log(np.exp(z).sum(axis=1))).mean()

    best = optimize.minimize(loss, np.zeros(5), bounds=[(0, None)] * 2 + [(None, None)] * 3).fun
    blend = fit_blend(odds, labels)
    assert loss(np.concatenate(blend)) == pytest.approx(best, abs=1e-6)


def test_a_discriminant_hides_no_class_behind_two_others():
    """Three classes on a line: plain regression on classes never answers the middle one."""
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 3
    x = np.concatenate([4.0 * labels[:, None] + rng.normal(size=(300, 1)), rng.normal(size=(300, 6))], axis=1)
    probe = fit_discriminant(prepare(x[:200]), labels[:200], 3)
    right = probe.log_odds(x[200:]).argmax(axis=1) == labels[200:]
    assert right.mean() > 0.9


def test_a_class_without_rows_is_nearly_impossible():
    labels = np.arange(40) % 2
    x = np.random.default_rng(0).normal(size=(40, 3)) + 3 * labels[:, None]
    odds = fit_discriminant(prepare(x), labels, 3).log_odds(x)
    assert np.isfinite(odds).all() and (odds.argmax(axis=1) < 2).all()


def test_products_find_what_two_signs_tell():
    rng = np.random.default_rng(0)
    a, b = whiten(x := rng.normal(size=(600, 30))).of(x), whiten(z := rng.normal(size=(600, 24))).of(z)
    labels = (x[:, 20] * z[:, 17] > 0).astype(int)
    u, v = fit_products(a[:400], b[:400], labels[:400], 2)
    made = (a @ u)[:, 0] * (b @ v)[:, 0]
    probe = fit_discriminant(prepare(made[:400, None]), labels[:400], 2)
    assert (probe.log_odds(made[400:, None]).argmax(axis=1) == labels[400:]).mean() > 0.85


def test_the_rate_of_the_steps_changes_no_value(monkeypatch):
    p = np.random.default_rng(5).dirichlet(np.full(36, 0.3)).reshape(3, 4, 3)
    fast = union_information(p.sum(axis=1), p.sum(axis=0), tolerance=1e-8)[0]
    monkeypatch.setattr(decomposition, "FAST", 1.0)
    assert union_information(p.sum(axis=1), p.sum(axis=0), tolerance=1e-8)[0] == pytest.approx(fast, abs=5e-4)
