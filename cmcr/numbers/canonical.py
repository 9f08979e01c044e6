"""Canonical correlation: the directions along which two spaces agree on known pairs, and how far to believe each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

RIDGES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""What ``pick`` tries, relative to the mean eigenvalue of each side's covariance."""
FOLDS = 5
MOST = 2048
"""Pairs that a choice is made on, at most: its matrices grow with their square."""
Folds = list[np.ndarray]
"""Row numbers, each held out once."""


class Canonical(NamedTuple):
    """A linear map of each side: (K, D) weight and (K,) bias; the components are weighted by their correlation."""

    weight_x: Tensor
    bias_x: Tensor
    weight_y: Tensor
    bias_y: Tensor

    def cosines(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the (N, M) cosines of (N, D_x) and (M, D_y) rows through the maps."""
        left, right = x @ self.weight_x.T + self.bias_x, y @ self.weight_y.T + self.bias_y
        return F.normalize(left, dim=1) @ F.normalize(right, dim=1).T


def fit_canonical(x: Tensor, y: Tensor, ridge: float) -> Canonical:
    """Return the maps under which paired rows agree most, canonical correlation analysis with a ridge.

    The weight of a direction is its correlation rho on either side, so that in a product of two rows it counts rho^2:
    what few pairs agree on by chance then counts little (CSA, Li et al., ICLR 2025, weighs by rho).

    Args:
        x: (N, D_x) rows, N of 2 or more.
        y: (N, D_y) their partners.
        ridge: Relative to the mean eigenvalue of each covariance; above 0.
    """
    x, y = x.double(), y.double()
    mean_x, mean_y = x.mean(dim=0), y.mean(dim=0)
    x, y = x - mean_x, y - mean_y
    white_x, white_y = _whitening(x, ridge), _whitening(y, ridge)
    left, rho, right = torch.linalg.svd(white_x @ (x.T @ y / len(x)) @ white_y, full_matrices=False)
    kept = rho > 1e-6
    weight_x = (white_x @ left * rho)[:, kept].T
    weight_y = (white_y @ right.T * rho)[:, kept].T
    bias_x, bias_y = -weight_x @ mean_x, -weight_y @ mean_y
    return Canonical(weight_x.float(), bias_x.float(), weight_y.float(), bias_y.float())


def pick_ridge(x: Tensor, y: Tensor, folds: Folds) -> float:
    """Return the ridge of ``RIDGES`` under which held-out pairs rank highest: the least mean log rank over folds."""
    return min(RIDGES, key=lambda ridge: _over(held_out(x, y, ridge, folds), lambda cosines, rows: cosines))


def folds_of(count: int, seed: int) -> Folds:
    """Return ``FOLDS`` parts of at most ``MOST`` of ``count`` rows, drawn from ``seed``."""
    order = np.random.default_rng([seed, 1 << 21]).permutation(count)[:MOST]
    return [order[number::FOLDS] for number in range(FOLDS)]


def held_out(x: Tensor, y: Tensor, ridge: float, folds: Folds) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Yield for each fold its rows and the (P, P) cosines of all folds' rows through maps that did not see it.

    Args:
        x: (N, D_x) rows.
        y: (N, D_y) their partners.
        ridge: See ``fit_canonical``.
        folds: Row numbers; P in all.
    """
    every = np.concatenate(folds)
    for number, fold in enumerate(folds):
        known = np.concatenate([each for other, each in enumerate(folds) if other != number])
        start = sum(map(len, folds[:number]))
        cosines = fit_canonical(x[known], y[known], ridge).cosines(x[every], y[every])
        yield np.arange(start, start + len(fold)), cosines


def pick_weight(
    held: Sequence[tuple[np.ndarray, Tensor]], others: Tensor, spread: float, weights: Sequence[float]
) -> float:
    """Return the weight of canonical cosines beside ``others`` under which held-out pairs rank best.

    Args:
        held: What ``held_out`` yields.
        others: (P, P) similarities of the same rows that rest on no pair.
        spread: What the cosines are divided by.
        weights: To choose from, ascending; of equal ones the first is chosen.
    """
    return min(weights, key=lambda weight: _over(held, lambda cosines, rows: others + weight / spread * cosines))


def _over(
    held: Sequence[tuple[np.ndarray, Tensor]] | Iterator[tuple[np.ndarray, Tensor]],
    scores: Callable[[Tensor, np.ndarray], Tensor],
) -> float:
    """Return the mean log rank of the held-out pairs, both directions, each among all rows."""
    total, count = 0.0, 0
    for rows, cosines in held:
        made = scores(cosines, rows)
        own = made.diagonal()[rows]
        for ranks in ((made[rows] >= own[:, None]).sum(dim=1), (made[:, rows] >= own).sum(dim=0)):
            total, count = total + float(ranks.double().log().sum()), count + len(rows)
    return total / max(1, count)


def _whitening(x: Tensor, ridge: float) -> Tensor:
    """Return the symmetric (D, D) inverse root of the covariance of centred rows, plus the ridge."""
    values, vectors = torch.linalg.eigh(x.T @ x / len(x))
    values = values.clamp_min(0) + ridge * values.mean().clamp_min(1e-12)
    root: Tensor = vectors * values.rsqrt() @ vectors.T
    return root
