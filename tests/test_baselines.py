import numpy as np
import torch
from sklearn.linear_model import Ridge

from cmcr.numbers.ridge import RIDGES, fit_ridge, pick_ridge
from cmcr.space.bridges import identity, linear_bridge, route_bridge


def unit(rows, dim, seed=0):
    return torch.nn.functional.normalize(torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_ridge_agrees_with_scikit_learn():
    x, y = unit(50, 6, 0), unit(50, 4, 1)
    weight, bias = fit_ridge(x, y, 0.3)
    centered = x.numpy() - x.numpy().mean(axis=0)
    alpha = 0.3 * np.trace(centered.T @ centered) / 6
    oracle = Ridge(alpha=alpha).fit(x.numpy(), y.numpy())
    assert np.allclose(weight, oracle.coef_, atol=1e-5)
    assert np.allclose(bias, oracle.intercept_, atol=1e-5)


def test_ridge_recovers_a_linear_map_and_stands_a_constant_column():
    x = unit(300, 6, 0)
    x[:, 2] = 0.25
    truth = unit(4, 6, 1)
    weight, bias = fit_ridge(x, x @ truth.T, 1e-6)
    assert torch.allclose(x @ weight.T + bias, x @ truth.T, atol=1e-4)
    assert torch.isfinite(weight).all()


def test_picked_ridge_has_the_least_held_out_error():
    x, held = unit(30, 20, 0), unit(200, 20, 1)
    truth = unit(5, 20, 2)
    noisy = x @ truth.T + 0.3 * torch.randn(30, 5, generator=torch.Generator().manual_seed(3))

    def error(ridge):
        weight, bias = fit_ridge(x, noisy, ridge)
        return float((held @ weight.T + bias - held @ truth.T).square().mean())

    picked = pick_ridge(x, noisy, held, held @ truth.T)
    assert picked == min(RIDGES, key=error)
    assert picked > min(RIDGES)  # noise and few rows: the weakest ridge is not the best here


def test_bridges_apply_what_they_were_given():
    x = unit(5, 6)
    center = torch.full((6,), 0.1)
    moved = torch.nn.functional.normalize(x - center, dim=1)
    weight, bias = unit(3, 6, 1), torch.tensor([0.1, 0.2, 0.3])
    linear = linear_bridge(weight, bias, {"audio": center})
    assert torch.allclose(linear(x, "audio"), torch.nn.functional.normalize(moved @ weight.T + bias, dim=1), atol=1e-6)
    assert torch.allclose(identity(6, {"audio": center})(x, "audio"), moved, atol=1e-6)
    keys, values = unit(9, 6, 2), unit(9, 4, 3)
    route = route_bridge(keys, values, 0.1, 0, {"audio": center})
    expected = torch.nn.functional.normalize((moved @ keys.T / 0.1).softmax(dim=1) @ values, dim=1)
    assert torch.allclose(route(x, "audio"), expected, atol=1e-6)
