"""Partial information decomposition of I(X1, X2; Y) of discrete variables: shared, unique to either, only together.

The definition is that of Bertschinger et al. ("Quantifying unique information", Entropy 2014; "BROJA"): of all joint
distributions that keep what X1 alone and X2 alone tell of Y, the one with the least information has no synergy; what
the true one holds beyond it is synergy.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
STEPS, FAST = 300, 32.0
"""Steps at most, and the largest rate of one."""
ROUNDS, APART = 60, 1e-8
"""Scalings that bring a step back to its marginals at most, and how far off it may stay."""
NONE = 1e-12
"""A probability that counts as none."""


class Parts(NamedTuple):
    """Bits of I(X1, X2; Y): four parts, each 0 or more, whose sum it is.

    >>> from cmcr.numbers.decomposition import Parts
    >>> Parts(0.5, 0.25, 0.0, 0.25).total
    1.0
    """

    shared: float
    first: float
    second: float
    together: float

    @property
    def total(self) -> float:
        """I(X1, X2; Y)."""
        return self.shared + self.first + self.second + self.together


def parts_of(first: float, second: float, union: float, total: float) -> Parts:
    """Return the parts, made consistent where estimates contradict each other by a little.

    Args:
        first: I(X1; Y).
        second: I(X2; Y).
        union: The least information that a joint distribution with these two can hold; taken as at most ``total``.
        total: I(X1, X2; Y); taken as at least each alone.
    """
    first, second = max(first, 0.0), max(second, 0.0)
    total = max(total, first, second)
    union = min(max(union, first, second), total, first + second)
    return Parts(first + second - union, union - second, union - first, total - union)


def entropy(p: npt.ArrayLike) -> float:
    """Return the entropy of a distribution of any shape, in bits."""
    p = np.asarray(p, np.float64)
    return float(-(p * _log(p)).sum() / np.log(2))


def mutual_information(p: npt.ArrayLike) -> float:
    """Return the mutual information of a joint distribution (K, C), in bits."""
    p = np.asarray(p, np.float64)
    return max(0.0, entropy(p.sum(axis=1)) + entropy(p.sum(axis=0)) - entropy(p))


def decompose(p: npt.ArrayLike) -> Parts:
    """Return the parts of a joint distribution.

    >>> import numpy as np
    >>> from cmcr.numbers.decomposition import decompose
    >>> xor = np.zeros((2, 2, 2))
    >>> for a in range(2):
    ...     for b in range(2):
    ...         xor[a, b, a ^ b] = 1 / 4
    >>> [round(part, 3) for part in decompose(xor)]
    [0.0, 0.0, 0.0, 1.0]

    Args:
        p: (K1, K2, C) probabilities of X1, X2 and Y.
    """
    p = np.asarray(p, np.float64)
    one, two = p.sum(axis=1), p.sum(axis=0)
    total = mutual_information(p.reshape(-1, p.shape[2]))
    return parts_of(mutual_information(one), mutual_information(two), union_information(one, two)[0], total)


def union_information(
    one: npt.ArrayLike, two: npt.ArrayLike, start: Array | None = None, tolerance: float = 1e-6
) -> tuple[float, Array]:
    """Return the least I(X1, X2; Y) under these two joint distributions, in bits, and where it is reached.

    A convex problem. A step multiplies q by (q(x1, x2) / q(x1, x2, y))^rate and brings it back to its marginals by
    scaling rows and columns in turn: mirror descent, which with a rate of 1 is the alternating minimisation of
    D(q || p(y) r(x1, x2)) over q and r and never ascends (Csiszar and Tusnady, 1984). The rate grows while the
    information falls, and shrinks where it does not.

    Args:
        one: (K1, C) probabilities of X1 and Y.
        two: (K2, C) of X2 and Y; their sums over X are the same (C,).
        start: (C, K1, K2) to start from, of an earlier call with similar distributions.
        tolerance: Bits that ten steps must win for more to be taken.
    """
    rows, columns = _cleared(np.asarray(one, np.float64).T), _cleared(np.asarray(two, np.float64).T)
    mass = np.maximum(rows.sum(axis=1), NONE)[:, None, None]
    q = rows[:, :, None] * columns[:, None, :] / mass  # independent given Y: inside, so that every q can be reached
    if start is not None:
        q = _scaled(0.9 * start + 0.1 * q, rows, columns)
    value, rate, before = _information(q), 1.0, np.inf
    for step in range(1, STEPS + 1):
        made = _scaled(_moved(q, rate), rows, columns)
        found = _information(made)
        if found <= value:
            q, value, rate = made, found, min(rate * 1.3, FAST)
        else:
            rate = max(1.0, rate / 4)
        if step % 10 == 0:
            if before - value < tolerance:
                break
            before = value
    return max(0.0, value), q


def _cleared(table: Array) -> Array:
    """Return (C, K) without what is next to nothing, which would be lost in rounding, and with the same sums."""
    kept = np.where(table > NONE, table, 0.0)
    made: Array = kept * _over(table.sum(axis=1), kept.sum(axis=1))[:, None]
    return made


def _moved(q: Array, rate: float) -> Array:
    """Return q (q(x1, x2) / q(x1, x2, y))^rate, with rows and columns scaled so that none vanishes."""
    log = _log(q)
    log += rate * np.where(q > 0, _log(q.sum(axis=0)) - log, 0.0)
    log -= log.max(axis=2, keepdims=True)
    log -= log.max(axis=1, keepdims=True)
    made: Array = np.exp(log)
    return np.where(q > 0, made, 0.0)


def _information(q: Array) -> float:
    return mutual_information(q.reshape(len(q), -1).T)


def _scaled(q: Array, rows: Array, columns: Array) -> Array:
    """Return the (C, K1, K2) with these (C, K1) and (C, K2) sums that is nearest to q: Sinkhorn's scaling."""
    for _ in range(ROUNDS):
        q = q * _over(rows, q.sum(axis=2))[:, :, None]
        q = q * _over(columns, q.sum(axis=1))[:, None, :]
        if np.abs(q.sum(axis=2) - rows).sum() < APART:
            break
    return q


def _over(wanted: Array, found: Array) -> Array:
    return np.divide(wanted, found, out=np.zeros_like(wanted), where=found > 0)


def _log(p: Array) -> Array:
    return np.log(np.maximum(p, 1e-300))
