import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cmcr.numbers.agreement import Agreement


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def drawn(seed, overlap=12, rows=(40, 30), dims=(6, 5)):
    """Held-out overlap and outer rows of two sides that describe the same hidden items."""
    rng = np.random.default_rng(seed)
    maps = [rng.normal(size=(4, dim)) for dim in dims]
    items, outer = rng.normal(size=(overlap, 4)), [rng.normal(size=(count, 4)) for count in rows]
    return [unit(items @ each) for each in maps], [unit(x @ each) for x, each in zip(outer, maps, strict=True)], outer


def tensors(arrays):
    return tuple(torch.from_numpy(np.float32(x)) for x in arrays)


def naive(overlap, outer, x, y, k=10):
    """Agreement and its chance by plain loops."""
    near = []
    for texts, rows in zip(overlap, outer, strict=True):
        texts, rows = (unit(each - each.mean(axis=0)) for each in (texts, rows))
        near.append([int(np.argmax([row @ text for text in texts])) for row in rows])
    means, chances = [], []
    for one, other, scores in ((near[0], near[1], x @ y.T), (near[1], near[0], y @ x.T)):
        hits, luck = [], []
        for row, label in enumerate(one):
            same = {number for number, each in enumerate(other) if each == label}
            if same:
                hits.append(bool(same & set(np.argsort(-scores[row])[:k])))
                draws = min(k, len(other))
                luck.append(1 - math.comb(len(other) - len(same), draws) / math.comb(len(other), draws))
        means.append(np.mean(hits))
        chances.append(np.mean(luck))
    return np.mean(means), np.mean(chances)


@given(st.integers(0, 10_000), st.integers(2, 30))
def test_it_is_that_of_the_naive_loops(seed, overlap):
    texts, outer, _ = drawn(seed, overlap)
    agreement = Agreement(tensors(texts), tensors(outer))
    rng = np.random.default_rng(seed)
    x, y = (unit(rng.normal(size=(len(rows), 7))) for rows in outer)
    if not agreement.rows:
        return
    value, chance = naive(texts, outer, x, y)
    assert agreement(*tensors((x, y))) == pytest.approx(value, abs=1e-6)
    assert agreement.chance == pytest.approx(chance, abs=1e-6)


def test_it_tells_a_true_connection_from_a_shuffled_one_and_chance_is_what_a_random_one_reaches():
    texts, outer, items = drawn(0, overlap=60, rows=(900, 800), dims=(16, 12))
    agreement = Agreement(tensors(texts), tensors(outer))
    x, y = (unit(each) for each in items)
    rng = np.random.default_rng(1)
    noisy = unit(x + 0.5 * rng.normal(size=x.shape))
    found = [agreement(*tensors((each, y))) for each in (x, noisy)]
    random = agreement(*tensors(unit(rng.normal(size=(len(each), 400))) for each in (x, y)))
    assert found[0] > found[1] + 0.05 and found[1] > random + 0.2
    assert random == pytest.approx(agreement.chance, abs=0.02)


def test_without_a_match_it_says_so():
    texts = torch.eye(4)
    # Around their mean the rows of one side lie by texts 0 and 1, those of the other by 2 and 3.
    apart = Agreement((texts, texts), (texts[:2], texts[2:]))
    assert apart.rows == 0 and math.isnan(apart.chance)
