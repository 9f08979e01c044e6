import math

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from cmcr.devices import matrix_products, narrow_products
from cmcr.numbers import info_nce, inter_loss, intra_loss, losses

with matrix_products("cpu", "bf16"):
    NARROW = narrow_products("cpu")


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


@given(st.integers(1, 9), st.integers(1, 6), st.floats(0.01, 2.0), st.integers(0, 99))
def test_info_nce_is_the_naive_double_loop(rows, dim, tau, seed):
    x, y = unit(rows, dim, seed), unit(rows, dim, seed + 1)
    rounding = 16 * torch.finfo(torch.float32).eps * (1 / tau + math.log(rows) + 1)  # of logits and of their sum
    assert float(info_nce(x, y, tau)) == pytest.approx(naive_info_nce(x, y, tau), abs=rounding)


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


@pytest.mark.parametrize("squared", [False, True])
def test_intra_loss_has_the_gradients_of_its_formula(squared):
    def plain(x, y):
        squares = (x - y).square().sum(dim=1)
        return (squares if squared else squares.sqrt()).mean() / 2

    given_rows = unit(9, 4, 0), unit(9, 4, 1)
    ours = value_and_gradients(lambda x, y: intra_loss(x, y, squared), *given_rows)
    for found, expected in zip(ours, value_and_gradients(plain, *given_rows), strict=True):
        assert torch.allclose(found, expected, rtol=1e-6, atol=0)


def held_whole(x, y, tau):
    logits, target = x @ y.T / tau, torch.arange(len(x))
    both = torch.nn.functional.cross_entropy
    return (both(logits, target) + both(logits.T, target)) / 2


def value_and_gradients(loss, *inputs):
    inputs = [tensor.clone().requires_grad_() for tensor in inputs]
    value = loss(*inputs)
    return [value.detach(), *torch.autograd.grad(value, inputs)]


def sizes_of_terms(x, y, tau):
    """Return how large the terms are whose sums are the value and its gradients by x, y and tau, all in float64.

    A sum of terms of both signs may be small; what rounding does to it is a share of the terms, not of the sum. The
    weights of the soft maxima are themselves off by a share that grows with the logits.
    """
    logits = x @ y.T / tau
    largest = logits.abs().max() + math.log(len(x)) + 1
    weights = (logits.softmax(dim=1) + logits.softmax(dim=0) + 2 * torch.eye(len(x))) / (2 * len(x))
    by_tau = (weights * logits.abs()).sum() / tau
    return largest, *(largest * each for each in (weights @ y.abs() / tau, weights.T @ x.abs() / tau, by_tau))


def assert_exact(x, y, tau):
    tau = torch.tensor(tau, dtype=x.dtype)
    found, plain = (value_and_gradients(loss, x, y, tau) for loss in (info_nce, held_whole))
    exactly = x.double(), y.double(), tau.double()
    true, terms = value_and_gradients(held_whole, *exactly), sizes_of_terms(*exactly)
    for ours, naive, exact, size in zip(found, plain, true, terms, strict=True):
        assert ours.dtype == x.dtype
        allowed = 2 * (naive.double() - exact).abs() + 8 * torch.finfo(x.dtype).eps * size
        assert ((ours.double() - exact).abs() <= allowed).all()


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr(losses, "tile_rows", lambda device: 7)
    monkeypatch.setattr(losses, "KEPT", 3 * 7 * 7 * 4)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(9, 0.05, 0.72265625, 87)  # the gradient by tau is a small sum of large terms of both signs
@given(st.integers(2, 40), st.sampled_from([0.01, 0.05, 0.3, 3.0]), st.floats(0, 3), st.integers(0, 99))
def test_value_and_gradients_are_those_of_the_similarities_held_whole(small_tiles, rows, tau, apart, seed):
    for dtype in (torch.float32, torch.float64):
        x = unit(rows, 6, seed, dtype)
        y = torch.nn.functional.normalize(x + apart * unit(rows, 6, seed + 1, dtype), dim=1)
        assert_exact(x, y, tau)


def test_a_tiny_temperature_stays_exact():
    # The logits lie between -500 and 500: beyond what float32's exponentials hold.
    assert_exact(unit(20, 6, 0), unit(20, 6, 1), 0.002)


def test_a_pair_that_has_nearly_all_the_weight_keeps_its_small_gradient():
    x, y = torch.eye(6), torch.nn.functional.normalize(torch.eye(6) + 0.1, dim=1)
    found, true = value_and_gradients(info_nce, x, y, torch.tensor(0.04)), value_and_gradients(
        held_whole, x.double(), y.double(), torch.tensor(0.04).double()
    )  # fmt: skip
    assert 0 < true[0] < 1e-8
    assert all(torch.allclose(a.double(), b, rtol=1e-3, atol=0) for a, b in zip(found[:2], true[:2], strict=True))


class Products(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.largest, self.similarities = 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.similarities += function is torch.ops.aten.mm.out
        if isinstance(result, torch.Tensor):
            self.largest = max(self.largest, result.untyped_storage().nbytes() // result.element_size())
        return result


@pytest.mark.parametrize("tiles", [0, 7, 100])
def test_no_more_similarities_are_held_than_kept_and_each_tile_serves_both_directions(monkeypatch, tiles):
    monkeypatch.setattr(losses, "tile_rows", lambda device: 10)
    monkeypatch.setattr(losses, "KEPT", tiles * 10 * 10 * 4)
    x, y = unit(100, 3, 0).requires_grad_(), unit(100, 3, 1)
    with Products() as seen:
        info_nce(x, y, 0.1).backward()
    assert seen.similarities == 100 + (100 - tiles)
    assert seen.largest <= 100 * 3  # the rows themselves: a tile is smaller


def test_a_kept_tile_and_one_computed_again_give_the_same_bytes(monkeypatch):
    monkeypatch.setattr(losses, "tile_rows", lambda device: 7)
    found = []
    for kept in (0, 1 << 30, 3 * 7 * 7 * 4):
        monkeypatch.setattr(losses, "KEPT", kept)
        found.append(value_and_gradients(info_nce, unit(40, 6, 0), unit(40, 6, 1), torch.tensor(0.05)))
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


@pytest.mark.skipif(not NARROW, reason="this processor has no AMX")
@pytest.mark.parametrize("kept", [0, 1 << 30, 2 * 32 * 32 * 2])
@pytest.mark.parametrize("rows", [30, 64, 217])
def test_gradients_of_bf16_products_are_nearly_exact_whatever_is_kept(rows, kept, monkeypatch):
    monkeypatch.setattr(losses, "tile_rows", lambda device: 16)  # those of bf16 are twice as large
    monkeypatch.setattr(losses, "NARROW_KEPT", kept)
    made = torch.Tensor.new_empty
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda *args, **kw: made(*args, **kw).fill_(math.nan))
    x = unit(rows, 48, 0)
    y = torch.nn.functional.normalize(x + 3 * unit(rows, 48, 1), dim=1)
    exactly = value_and_gradients(held_whole, x.double(), y.double(), torch.tensor(0.05).double())
    with matrix_products("cpu", "bf16"):
        found = value_and_gradients(info_nce, x, y, torch.tensor(0.05))
    assert float(found[0]) == pytest.approx(float(exactly[0]), rel=1e-2)
    for ours, exact in zip(found[1:3], exactly[1:3], strict=True):
        assert 1e-5 < (ours - exact).norm() / exact.norm() < 1e-2  # lower precision indeed, and close


def test_no_gradient_wanted_no_second_pass(monkeypatch):
    monkeypatch.setattr(losses, "tile_rows", lambda device: 10)
    with Products() as seen:
        info_nce(unit(40, 3, 0), unit(40, 3, 1), 0.1)
    assert seen.similarities == (40 // 10) ** 2
