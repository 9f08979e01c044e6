"""A linear probe in closed form: ridge regression on classes, then linear discriminants of what it says of unseen rows.

Hastie, Buja and Tibshirani ("Penalized discriminant analysis", 1995) show that discriminant analysis with a penalty is
regression on classes, followed by discriminants of its few outputs. Here those are fitted to leave-one-out outputs,
which a ridge regression gives without fitting again, so that they do not believe what it learnt by heart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, 1000.0)
"""Relative to the mean eigenvalue of the covariance; the one with the least leave-one-out error is taken."""


@dataclass(frozen=True)
class Discriminant:
    """A fitted probe; of rows (N, D) it says ``log_odds`` (N, C), up to a constant a row.

    >>> import numpy as np
    >>> from cmcr.numbers.discriminant import fit_discriminant, prepare
    >>> rng = np.random.default_rng(0)
    >>> labels = np.arange(90) % 3
    >>> x = 3 * np.eye(3)[labels] + rng.normal(size=(90, 3))
    >>> bool((fit_discriminant(prepare(x), labels, 3).log_odds(x).argmax(axis=1) == labels).mean() > 0.9)
    True
    """

    mean: Array
    weight: Array
    bias: Array

    def log_odds(self, x: npt.ArrayLike) -> Array:
        """Return (N, C) of (N, D)."""
        made: Array = (np.asarray(x, np.float64) - self.mean) @ self.weight + self.bias
        return made


class Prepared(NamedTuple):
    """Rows as a singular value decomposition, made once for all labels: mean (D,), U (N, K), sizes (K,), V (K, D)."""

    mean: Array
    left: Array
    size: Array
    right: Array


def prepare(x: npt.ArrayLike) -> Prepared:
    """Return rows (N, D) as a probe is fitted to them."""
    x = np.asarray(x, np.float64)
    mean = x.mean(axis=0)
    return Prepared(mean, *np.linalg.svd(x - mean, full_matrices=False))


def fit_discriminant(rows: Prepared, labels: npt.NDArray[np.integer], classes: int) -> Discriminant:
    """Fit the probe.

    Args:
        rows: N of them.
        labels: (N,) class numbers; a class may have no row, and is then held for nearly impossible.
        classes: C.
    """
    target = np.eye(classes)[labels]
    shares = target.mean(axis=0)
    directions, outputs = _regressed(rows, target - shares)
    centres = target.T @ outputs / np.maximum(target.sum(axis=0), 1)[:, None]
    apart = outputs - centres[labels]
    within = apart.T @ apart / len(labels)
    within += (1e-3 * np.trace(within) / classes + 1e-12) * np.eye(classes)
    solved = np.linalg.solve(within, centres.T)
    bias = np.log(shares + 1e-3 / len(labels)) - 0.5 * (centres * solved.T).sum(axis=1)
    return Discriminant(rows.mean, directions @ solved, bias)


def _regressed(rows: Prepared, y: Array) -> tuple[Array, Array]:
    """Return the weights (D, C) of centred (N, C) on the rows, and what they say of each row when it is left out."""
    _, left, size, right = rows
    seen = left.T @ y
    mean = max(float((size**2).mean()), 1e-12)
    best, found = np.inf, (np.zeros((right.shape[1], y.shape[1])), 0 * y)
    for ridge in RIDGES:
        kept = size**2 / (size**2 + ridge * mean)
        lever = np.minimum(left**2 @ kept + 1 / len(y), 1 - 1e-6)  # of a row on its own output, by the mean too
        off = (y - left @ (kept[:, None] * seen)) / (1 - lever)[:, None]
        if (error := float((off**2).sum())) < best:
            best, found = error, (right.T @ ((size / (size**2 + ridge * mean))[:, None] * seen), y - off)
    return found
