"""Information of two vectors on a class as if all were Gaussian: what means and covariances say, and how it is shared.

The definition is Bertschinger's among Gaussian distributions: the union of X1 and X2 is the least I(X1, X2; Y) of those
that keep both pairs (Venkatesh et al., "Gaussian partial information decomposition", NeurIPS 2023). An exclusive or has
no covariance with anything, so none of this sees it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
STEPS, TOLERANCE = 300, 1e-5
SHRINK, EDGE = 1e-4, 1e-5
"""How far correlations with the class, and those of the noise of both vectors, stay away from 1."""


class Informations(NamedTuple):
    """Bits: I(X1; Y), I(X2; Y), their union, and I(X1, X2; Y)."""

    first: float
    second: float
    union: float
    total: float


def gaussian_informations(x1: Array, x2: Array, labels: npt.NDArray[np.integer], classes: int) -> Informations:
    """Return the informations of the Gaussian with the covariance of these rows and of their classes, one-hot.

    They are not corrected for how few rows there are: subtract those of shuffled labels. They have no upper bound, for
    a Gaussian class has none.

    >>> import numpy as np
    >>> from cmcr.numbers.gaussian_parts import gaussian_informations
    >>> rng = np.random.default_rng(0)
    >>> labels = np.arange(4000) % 2
    >>> see, hear = labels[:, None] + rng.normal(size=(4000, 2)), rng.normal(size=(4000, 2))
    >>> found = gaussian_informations(see, hear, labels, 2)
    >>> bool(found.first > 0.2 and found.second < 0.01 and found.union < found.first + 0.01)
    True

    Args:
        x1: (N, D1) rows.
        x2: (N, D2) the same rows of the other.
        labels: (N,) class numbers.
        classes: C.
    """
    one, two, y = _white(x1), _white(x2), _white(np.eye(classes)[labels])
    count, cross = len(y), one.T @ two / len(y)
    k1, k2 = (1 - SHRINK) * one.T @ y / count, (1 - SHRINK) * two.T @ y / count
    both = np.block([[np.eye(one.shape[1]), cross], [cross.T, np.eye(two.shape[1])]])
    both += SHRINK * np.eye(len(both))
    k = np.concatenate([k1, k2])
    first, second = (_bits(-np.linalg.slogdet(np.eye(y.shape[1]) - each.T @ each)[1]) for each in (k1, k2))
    total = _bits(-np.linalg.slogdet(np.eye(y.shape[1]) - k.T @ np.linalg.solve(both, k))[1])
    return Informations(first, second, union_of_channels(_channel(k1), _channel(k2)), total)


def union_of_channels(h1: Array, h2: Array) -> float:
    """Return the least I(X1, X2; Y) in bits of X1 = h1 Y + N1, X2 = h2 Y + N2 over how N1 and N2 go together.

    Y (K,), N1 and N2 are standard normal; the covariance of N1 and N2 is any matrix whose singular values are at most
    1. A convex problem, solved by projected gradients.

    Args:
        h1: (D1, K).
        h2: (D2, K).
    """
    noise = np.zeros((len(h1), len(h2)))
    value, slope = _information(h1, h2, noise)
    rate = 1.0
    for _ in range(STEPS):
        tried = _contracted(noise - rate * slope)
        found, new = _information(h1, h2, tried)
        if found > value:
            rate /= 3
            if rate < 1e-8:
                break
            continue
        won, noise, value, slope, rate = value - found, tried, found, new, rate * 1.5
        if won < TOLERANCE:
            break
    return value


def _information(h1: Array, h2: Array, noise: Array) -> tuple[float, Array]:
    """Return the information in bits under a covariance of the noises, and its slope."""
    h = np.concatenate([h1, h2])
    covariance = np.block([[np.eye(len(h1)), noise], [noise.T, np.eye(len(h2))]])
    seen = np.linalg.solve(covariance, h)
    inner = np.eye(h.shape[1]) + h.T @ seen
    slope = -(seen @ np.linalg.solve(inner, seen.T))[: len(h1), len(h1) :]
    return _bits(np.linalg.slogdet(inner)[1]), slope / np.log(2)


def _contracted(noise: Array) -> Array:
    left, size, right = np.linalg.svd(noise, full_matrices=False)
    made: Array = left * size.clip(0, 1 - EDGE) @ right
    return made


def _channel(k: Array) -> Array:
    """Return (J, K) for the (D, K) covariance of white X and Y: what X says of Y, in white noise, without the rest."""
    _, size, right = np.linalg.svd(k, full_matrices=False)
    made: Array = (size / np.sqrt(1 - size**2))[:, None] * right
    return made


def _white(x: Array) -> Array:
    """Return centred rows as white components, without those that do not vary."""
    x = x - x.mean(axis=0)
    values, vectors = np.linalg.eigh(x.T @ x / len(x))
    kept = values > 1e-9 * max(values.max(), 1e-12)
    made: Array = x @ vectors[:, kept] / np.sqrt(values[kept])
    return made


def _bits(log_ratio: float) -> float:
    return max(0.0, float(log_ratio / 2 / np.log(2)))
