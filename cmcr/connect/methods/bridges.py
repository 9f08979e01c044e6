"""The training-free bridges between two spaces: ridge regression and routing through the overlap."""

from __future__ import annotations

import torch
from torch import Tensor

from cmcr.space import Projector, ProjectorConfig, Route

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
    """Return the ridge of ``RIDGES`` with the least squared error on held-out rows."""

    def error(ridge: float) -> float:
        weight, bias = fit_ridge(x, y, ridge)
        return float((held_x @ weight.T + bias - held_y).square().mean())

    return min(RIDGES, key=error)


def identity(dim: int, centers: dict[str, Tensor]) -> Projector:
    """Return the projector of the base space: nothing but (when ``centers`` are given) the centring per modality."""
    return _centered(ProjectorConfig("identity", dim, dim, centered=tuple(centers)), centers)


def linear_bridge(weight: Tensor, bias: Tensor, centers: dict[str, Tensor]) -> Projector:
    """Return the projector x -> x W^T + b."""
    config = ProjectorConfig("linear", weight.shape[1], weight.shape[0], centered=tuple(centers))
    projector = _centered(config, centers)
    projector.body.load_state_dict({"weight": weight, "bias": bias})
    return projector


def route_bridge(keys: Tensor, values: Tensor, tau: float, top_k: int, centers: dict[str, Tensor]) -> Projector:
    """Return the projector that routes a vector through the overlap rows nearest to it in its own space.

    Args:
        keys: (M, D_in) unit overlap rows in the vector's own space (centred like the vectors).
        values: (M, D_out) the same rows in the base space.
        tau: Temperature of the softmax over the rows.
        top_k: Rows a vector is routed through, 0 for all.
        centers: Mean of each modality of the routed space, to be subtracted first; may be empty.
    """
    config = ProjectorConfig(
        "route", keys.shape[1], values.shape[1], anchors=len(keys), tau=tau, top_k=top_k, centered=tuple(centers)
    )
    projector = _centered(config, centers)
    body = projector.body
    assert isinstance(body, Route)  # noqa: S101  (the config above says so)
    body.keys.copy_(keys)
    body.values.copy_(values)
    return projector


def _centered(config: ProjectorConfig, centers: dict[str, Tensor]) -> Projector:
    projector = Projector(config)
    for name, center in centers.items():
        projector.centers[name].data.copy_(center)
    return projector.eval()
