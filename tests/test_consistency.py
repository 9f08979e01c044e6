import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cmcr.devices import has_bf16, matrix_products, narrow_products
from cmcr.numbers import recall as module
from cmcr.numbers.recall import as_values, complete, recall, recall_nearest, recall_through
from cmcr.numbers.rows import widened
from cmcr.search import exact_search

with matrix_products("cpu", "bf16"):
    NARROW = narrow_products("cpu")


def unit(rows, dim, seed):
    x = torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(x, dim=1)


def blocks_of(memory, size):
    return lambda: (part.numpy() for part in memory.split(size))


def naive(queries, memory, tau, k=None):
    result = []
    for q in queries.double().numpy():
        similarity = memory.double().numpy() @ q
        kept = np.argsort(-similarity, kind="stable")[:k]
        weights = np.exp((similarity[kept] - similarity.max()) / tau)
        result.append(weights @ memory.double().numpy()[kept] / weights.sum())
    return torch.tensor(np.array(result))


@given(st.integers(1, 40), st.integers(1, 41), st.floats(0.005, 1.0), st.integers(0, 99))
def test_recall_is_the_full_softmax_whatever_the_blocks(rows, size, tau, seed):
    queries, memory = unit(7, 5, seed), unit(rows, 5, seed + 1)
    found = recall(queries, blocks_of(memory, size), tau)
    rounding = 16 * torch.finfo(torch.float32).eps * (1 / tau + 1)  # a weight is off by what its exponent is
    assert torch.allclose(found.double(), naive(queries, memory, tau), rtol=0, atol=rounding)


@given(st.integers(1, 40), st.integers(1, 41), st.integers(1, 45), st.integers(0, 99))
def test_top_k_is_the_softmax_over_the_k_nearest(rows, size, k, seed):
    queries, memory = unit(6, 5, seed), unit(rows, 5, seed + 1)
    hits = exact_search(blocks_of(memory, size)(), queries.numpy(), k)
    found = recall_nearest(torch.from_numpy(hits.scores), memory[hits.rows], 0.05)
    rounding = 16 * torch.finfo(torch.float32).eps * (1 / 0.05 + 1)
    assert torch.allclose(found.double(), naive(queries, memory, 0.05, k), rtol=0, atol=rounding)


def test_recall_follows_a_maximum_that_rises_far_late():
    queries = torch.eye(2)
    memory = torch.tensor([[-1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [1.0, 0.0]])
    for tau in (0.01, 0.003):
        found = recall(queries, blocks_of(memory, 1), tau)
        rounding = 16 * torch.finfo(torch.float32).eps / tau
        assert torch.allclose(found.double(), naive(queries, memory, tau), rtol=0, atol=rounding)


def test_recall_does_not_overflow_at_a_tiny_temperature():
    queries, memory = unit(4, 5, 0), unit(30, 5, 1)
    found = recall(queries, blocks_of(memory, 7), 1e-6)
    nearest = memory[(queries @ memory.T).argmax(dim=1)]
    assert torch.allclose(found, nearest, atol=1e-4)


@pytest.mark.parametrize("rises", [0, 3])
def test_many_near_rows_sum_to_much_before_one_stands_out(rises):
    # 35 above the first tile's greatest logit: each weight is within HEADROOM, their sum is not; then one is beyond.
    far, near = torch.eye(3)[2].expand(1500, 3), torch.eye(3)[0].expand(1500, 3)
    memory = torch.cat([far, 0.35 * near, 0.5 * torch.eye(3)[:1].expand(rises, 3)])
    found = recall(torch.eye(3)[:1], blocks_of(memory, 3000), 0.01)
    assert torch.allclose(found.double(), naive(torch.eye(3)[:1], memory, 0.01), atol=1e-4)


def test_exponents_that_a_processor_is_slow_at_are_left_out_without_a_trace(monkeypatch):
    memory = torch.cat([unit(700, 5, 1), -unit(700, 5, 1)])
    queries, looked_at = memory[:20], []
    original = torch.Tensor.exp_
    monkeypatch.setattr(torch.Tensor, "exp_", lambda x: original(looked_at.append(float(x.min())) or x))
    found = recall(queries, blocks_of(memory, 1400), 0.01)
    assert min(least for least in looked_at if least > -np.inf) == module.LEAST
    monkeypatch.setattr(module, "LEAST", -np.inf)
    assert torch.equal(recall(queries, blocks_of(memory, 1400), 0.01), found)
    assert min(least for least in looked_at if least > -np.inf) < -150


def test_recall_through_is_the_softmax_over_keys_times_each_values():
    queries, keys, values = unit(9, 5, 0), unit(2500, 5, 1), (unit(2500, 5, 2), torch.randn(2500, 8))
    weights = (queries.double() @ keys.double().T / 0.05).softmax(dim=1)
    for each in (*values, torch.cat(values, dim=1)):
        assert torch.allclose(recall_through(queries, keys, each, 0.05).double(), weights @ each.double(), atol=1e-5)


@pytest.mark.skipif(not has_bf16("cpu"), reason="this processor multiplies no bf16")
@pytest.mark.parametrize("tau", [0.05, 0.01])
def test_a_recall_in_bf16_is_nearly_that_in_float32(tau):
    queries, keys = unit(64, 128, 0), unit(9000, 128, 1)
    queries = torch.nn.functional.normalize(queries + 2 * keys[:64], dim=1)
    exact, found = {}, {}
    for precision, kept in (("fp32", exact), ("bf16", found)):
        with matrix_products("cpu", precision):
            kept["through"] = recall_through(queries, keys, as_values(keys), tau)
            kept["blocks"] = recall(queries, blocks_of(keys, 5000), tau)
            kept["values as they are"] = recall_through(queries, keys, keys, tau)
    assert as_values(keys) is keys
    for name, each in exact.items():
        assert not NARROW or not torch.equal(found[name], each), name
        assert torch.cosine_similarity(found[name], each).min() > 0.9999, name
        # A bf16 has eight bits; weights, values and the sums of a tile are rounded so, each a 512th at most.
        assert (found[name] - each).norm(dim=1).max() < 3 / 512 * float(each.norm(dim=1).max()), name


@pytest.mark.skipif(not NARROW, reason="this processor has no AMX")
@pytest.mark.parametrize("rows", [7, 300, 1000, 4100])
def test_what_lies_in_new_memory_does_not_enter_a_recall_in_bf16(rows, monkeypatch):
    made = torch.empty_like
    monkeypatch.setattr(torch, "empty_like", lambda *args, **kwargs: made(*args, **kwargs).fill_(math.nan))
    queries, keys = unit(500, 64, 0), unit(rows, 64, 1)
    with matrix_products("cpu", "bf16"):
        assert recall_through(queries, keys, as_values(keys), 0.05).isfinite().all()
        assert recall(queries, blocks_of(keys, 900), 0.05).isfinite().all()


@pytest.mark.parametrize("rows", [3, 5000])
def test_float16_rows_are_widened_to_the_same_numbers_by_torch_and_by_numpy(rows):
    stored = np.random.default_rng(0).normal(size=(rows, 300)).astype(np.float16)
    stored[0, :4] = np.inf, np.nan, 6e-8, -0.0
    stored.flags.writeable = False
    wide = widened(stored)
    assert wide.dtype == np.float32 and wide.flags.writeable
    assert np.array_equal(wide.view(np.int32), stored.astype(np.float32).view(np.int32))


def test_completion_has_the_cosines_the_variance_implies():
    x = unit(1, 512, 0).expand(2000, -1)
    noisy = complete(x, 0.004, torch.Generator().manual_seed(0))
    again = complete(x, 0.004, torch.Generator().manual_seed(1))
    # E cos(x, x~) = 0.574 and of two draws 0.331 at sigma^2 = 0.004 and d = 512.
    assert float((x * noisy).sum(1).mean()) == pytest.approx(0.574, abs=0.01)
    assert float((again * noisy).sum(1).mean()) == pytest.approx(0.331, abs=0.01)
    assert torch.allclose(noisy.norm(dim=1), torch.ones(2000), atol=1e-5)


def test_completion_without_variance_only_normalises_and_draws_nothing():
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert torch.allclose(complete(3 * unit(4, 5, 0), 0.0, generator), unit(4, 5, 0), atol=1e-6)
    assert torch.equal(before, generator.get_state())


def test_completion_is_fresh_at_each_call_and_repeats_with_its_generator():
    x = unit(4, 5, 0)
    generator = torch.Generator().manual_seed(3)
    first, second = complete(x, 0.01, generator), complete(x, 0.01, generator)
    assert not torch.allclose(first, second)
    assert torch.equal(first, complete(x, 0.01, torch.Generator().manual_seed(3)))
