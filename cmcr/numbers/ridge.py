"""Ridge regression from one space to another, and the choice of its ridge."""

from __future__ import annotations

import torch
from torch import Tensor

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""What ``pick_ridge`` tries, relative to the mean eigenvalue of the covariance."""
RIDGE = 1.0
"""The ridge where too few rows are there to pick one by."""


def fit_ridge(x: Tensor, y: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """Fit y ~ x W^T + b by ridge regression with a free intercept.

    Args:
        x: (N, D_in) rows of one space.
        y: (N, D_out) the same rows in the other.
        ridge: Relative to the mean eigenvalue of the covariance of ``x``; above 0, so that constant columns are fine.

    Returns:
        W (D_out, D_in) and b (D_out,).
    """
    x, y = x.double(), y.double()
    mean_x, mean_y = x.mean(dim=0), y.mean(dim=0)
    centered = x - mean_x
    covariance = centered.T @ centered
    penalty = ridge * covariance.diagonal().mean().clamp_min(1e-12)
    weight = torch.linalg.solve(
        covariance + penalty * torch.eye(len(covariance), dtype=x.dtype, device=x.device), centered.T @ (y - mean_y)
    ).T
    return weight.float(), (mean_y - weight @ mean_x).float()


def pick_ridge(x: Tensor, y: Tensor, held_x: Tensor, held_y: Tensor) -> float:
    """Return the ridge of ``RIDGES`` with the least squared error on held-out rows.

    Args:
        x: (N, D_in) rows it is fitted on, and ``y`` their (N, D_out) targets.
        y: See ``x``.
        held_x: (M, D_in) held-out rows, and ``held_y`` their (M, D_out) targets.
        held_y: See ``held_x``.
    """

    def error(ridge: float) -> float:
        weight, bias = fit_ridge(x, y, ridge)
        return float((held_x @ weight.T + bias - held_y).square().mean())

    return min(RIDGES, key=error)
