"""Combine what several classifiers say of rows they have not seen into probabilities that are neither too bold nor shy.

At the optimum the mean of the probabilities is the share of each class, and their mean entropy is the cross-entropy:
the information that they claim is the information that they have.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
STEPS = 60


class Blend(NamedTuple):
    """Weights (J,), 0 or more, of J classifiers' log odds, and a bias (C,) of the classes."""

    weights: Array
    bias: Array

    def probabilities(self, log_odds: Array) -> Array:
        """Return (N, C) of (J, N, C)."""
        return _softmax(np.tensordot(self.weights, log_odds, 1) + self.bias)


def fit_blend(
    log_odds: Array, labels: npt.NDArray[np.integer], start: Blend | None = None, steps: int = STEPS
) -> Blend:
    """Minimise the mean cross-entropy of softmax(sum_j w_j L_j + bias) over w >= 0 and the bias, by Newton's method.

    A convex problem. With one classifier this is temperature scaling (Guo et al., 2017) with a bias a class.

    >>> import numpy as np
    >>> from cmcr.numbers.calibration import fit_blend
    >>> bold = 50 * np.eye(2)[[0, 0, 1, 1]]  # certain, and wrong once
    >>> np.round(fit_blend(bold[None], np.array([0, 1, 1, 1])).probabilities(bold[None])[:, 1], 2)
    array([0.5, 0.5, 1. , 1. ])

    Args:
        log_odds: (J, N, C), of rows that the classifiers were not fitted on.
        labels: (N,) class numbers.
        start: Where to begin.
        steps: At most.
    """
    count, rows, classes = log_odds.shape
    spread = np.maximum(np.abs(log_odds).mean(axis=(1, 2)), 1e-12)
    scaled, truth = log_odds / spread[:, None, None], np.eye(classes)[labels]
    at = np.zeros(count + classes)
    if start is not None:
        at = np.concatenate([start.weights * spread, start.bias])
    else:
        at[count:] = np.log(truth.mean(axis=0) + 1e-3 / rows)
    loss, p = _loss(at, scaled, labels)
    for _ in range(steps):
        gradient, curvature = _slope(scaled, p, truth)
        free = np.ones(len(at), bool)
        free[:count] = (at[:count] > 0) | (gradient[:count] < 0)
        step = np.zeros(len(at))
        step[free] = np.linalg.solve(curvature[np.ix_(free, free)], gradient[free])
        size = 1.0
        while True:
            tried = at - size * step
            tried[:count] = tried[:count].clip(0)
            found, made = _loss(tried, scaled, labels)
            if found <= loss or size < 1e-6:
                break
            size /= 2
        won, at, loss, p = loss - found, tried, found, made
        if won < 1e-10:
            break
    return Blend(at[:count] / spread, at[count:])


def _loss(at: Array, log_odds: Array, labels: npt.NDArray[np.integer]) -> tuple[float, Array]:
    p = Blend(at[: len(log_odds)], at[len(log_odds) :]).probabilities(log_odds)
    return float(-np.log(np.maximum(p[np.arange(len(labels)), labels], 1e-300)).mean()), p


def _slope(log_odds: Array, p: Array, truth: Array) -> tuple[Array, Array]:
    """Return the gradient (J + C,) and the curvature (J + C, J + C) of the mean cross-entropy."""
    count, rows, classes = log_odds.shape
    off = (p - truth) / rows
    gradient = np.concatenate([np.einsum("jnc,nc->j", log_odds, off), off.sum(axis=0)])
    mean = np.einsum("jnc,nc->nj", log_odds, p)
    curvature = np.empty((count + classes,) * 2)
    curvature[:count, :count] = np.einsum("jnc,knc,nc->jk", log_odds, log_odds, p, optimize=True) - mean.T @ mean
    across = np.einsum("jnc,nc->jc", log_odds, p) - mean.T @ p
    curvature[:count, count:], curvature[count:, :count] = across, across.T
    curvature[count:, count:] = np.diag(p.sum(axis=0)) - p.T @ p
    return gradient, curvature / rows + 1e-8 * np.eye(len(gradient))


def _softmax(z: Array) -> Array:
    raised = np.exp(z - z.max(axis=1, keepdims=True))
    made: Array = raised / raised.sum(axis=1, keepdims=True)
    return made
