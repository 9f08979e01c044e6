import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cmcr.losses import info_nce, inter_loss, intra_loss


def unit(rows, dim, seed, dtype=torch.float32):
    x = torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return torch.nn.functional.normalize(x, dim=1)


def naive_info_nce(x, y, tau):
    total = 0.0
    for queries, keys in ((x, y), (y, x)):
        for i in range(len(x)):
            logits = [float(queries[i] @ keys[j]) / tau for j in range(len(x))]
            top = max(logits)
            total += top + math.log(sum(math.exp(value - top) for value in logits)) - logits[i]
    return total / (2 * len(x))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.integers(1, 6), st.floats(0.01, 2.0), st.integers(0, 99))
def test_info_nce_is_the_naive_double_loop(rows, dim, tau, seed):
    x, y = unit(rows, dim, seed), unit(rows, dim, seed + 1)
    assert float(info_nce(x, y, tau)) == pytest.approx(naive_info_nce(x, y, tau), rel=1e-4, abs=1e-5)


def test_info_nce_closed_form_of_orthogonal_pairs():
    eye = torch.eye(5)
    expected = -math.log(math.e**2 / (math.e**2 + 4))
    assert float(info_nce(eye, eye, 0.5)) == pytest.approx(expected, rel=1e-6)


def test_info_nce_is_symmetric_and_blind_to_the_order_of_pairs():
    x, y = unit(8, 4, 0), unit(8, 4, 1)
    order = torch.tensor([3, 1, 7, 0, 2, 6, 5, 4])
    assert torch.allclose(info_nce(x, y, 0.1), info_nce(y, x, 0.1))
    assert torch.allclose(info_nce(x, y, 0.1), info_nce(x[order], y[order], 0.1))


def test_info_nce_gradient_in_float64():
    x, y = (unit(5, 3, seed, torch.float64).requires_grad_() for seed in (0, 1))
    assert torch.autograd.gradcheck(lambda a, b: info_nce(a, b, 0.3), (x, y))


def test_inter_loss_is_the_weighted_sum_of_its_two_parts():
    t, v = (unit(6, 4, 0), unit(6, 4, 1)), (unit(6, 4, 2), unit(6, 4, 3))
    ttc, avc = info_nce(*t, 0.1), info_nce(*v, 0.2)
    assert torch.allclose(inter_loss(t, v, 0.1, 0.2), ttc + avc)
    assert torch.allclose(inter_loss(t, v, 0.1, 0.2, 0.5, 3.0), 0.5 * ttc + 3 * avc)
    assert torch.allclose(inter_loss(t, v, 0.1, 0.2, overlap_weight=0), avc)
    assert torch.allclose(inter_loss(t, v, 0.1, 0.2, pseudo_weight=0), ttc)
    assert torch.allclose(inter_loss(t, None, 0.1, 0.2), ttc)


def test_intra_loss_is_half_the_mean_distance():
    x, y = torch.tensor([[0.0, 0.0], [0.0, 0.0]]), torch.tensor([[3.0, 4.0], [0.0, 1.0]])
    assert float(intra_loss(x, y)) == pytest.approx((5 + 1) / 2 / 2)
    assert float(intra_loss(x, y, squared=True)) == pytest.approx((25 + 1) / 2 / 2)


def test_intra_loss_pulls_only():
    x = unit(6, 4, 0).requires_grad_()
    y = unit(6, 4, 1)
    intra_loss(x, y, squared=True).backward()
    # Each row is drawn along its own difference alone: no other row of the batch pushes it.
    assert torch.allclose(x.grad, (x.detach() - y) / len(x), atol=1e-6)


def test_intra_loss_of_coinciding_rows_has_a_finite_gradient():
    x = unit(4, 3, 0).requires_grad_()
    intra_loss(x, x.detach().clone()).backward()
    assert torch.isfinite(x.grad).all()
