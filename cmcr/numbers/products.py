"""Products of two directions that tell a class: what only both of two vectors together may say.

A label that agrees with neither vector alone (an exclusive or of what each shows) has no linear probe, in either of
them or in both side by side; it has one in products of their components. All products are too many for the rows that
there are, so a few of rank one are learnt: (u.a)(v.b), by alternating ridge regressions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
FEATURES, ROUNDS, RIDGE = 4, 8, 1.0
START = 16
"""Components of each side whose products say where the search begins."""
COMPONENTS = 48
"""Components of each side that are looked at: the largest."""


class Whitened(NamedTuple):
    """A map of rows (N, D) to their largest principal components, of about unit size."""

    mean: Array
    weight: Array

    def of(self, x: npt.ArrayLike) -> Array:
        """Return (N, K) of (N, D)."""
        made: Array = (np.asarray(x, np.float64) - self.mean) @ self.weight
        return made


def whiten(x: npt.ArrayLike, components: int = COMPONENTS) -> Whitened:
    """Return the map to at most so many components; those far below the mean in size are not blown up."""
    x = np.asarray(x, np.float64)
    mean = x.mean(axis=0)
    values, vectors = np.linalg.eigh((x - mean).T @ (x - mean) / len(x))
    values, vectors = values[::-1][:components].clip(0), vectors[:, ::-1][:, :components]
    return Whitened(mean, vectors / np.sqrt(values + 0.01 * values.mean() + 1e-12))


def fit_products(a: Array, b: Array, labels: npt.NDArray[np.integer], classes: int) -> tuple[Array, Array]:
    """Return u (Ka, F) and v (Kb, F): the F products (a u)(b v), (N, F), tell the classes.

    One after the other, each of what those before it left open.

    Args:
        a: (N, Ka) whitened rows.
        b: (N, Kb) the same rows of the other vectors, or of the same ones.
        labels: (N,) class numbers.
        classes: C.

    >>> import numpy as np
    >>> from cmcr.numbers.products import fit_products
    >>> a, b = np.random.default_rng(0).normal(size=(2, 400, 5))
    >>> u, v = fit_products(a, b, (a[:, 2] * b[:, 4] > 0).astype(int), 2)
    >>> int(abs(u[:, 0]).argmax()), int(abs(v[:, 0]).argmax())
    (2, 4)
    """
    left = np.eye(classes)[labels]
    left = left - left.mean(axis=0)
    pairs = []
    for _ in range(FEATURES):
        u, v, target = _start(a, b, left)
        for _ in range(ROUNDS):
            u = _ridge(a * (b @ v)[:, None], target)
            v = _ridge(b * (a @ u)[:, None], target)
        made = (a @ u) * (b @ v)
        made = made - made.mean()
        left = left - np.outer(made, made @ left) / max(float(made @ made), 1e-12)
        pairs.append((u, v))
    us, vs = zip(*pairs, strict=True)
    return np.stack(us, axis=1), np.stack(vs, axis=1)


def _start(a: Array, b: Array, left: Array) -> tuple[Array, Array, Array]:
    """Return directions whose product agrees most with what is left, and the combination of classes it agrees with."""
    few_a, few_b = a[:, :START], b[:, :START]
    agreed = np.einsum("ni,nj,nc->ijc", few_a, few_b, left, optimize=True)
    tables, _, targets = np.linalg.svd(agreed.reshape(-1, left.shape[1]), full_matrices=False)
    one, _, two = np.linalg.svd(tables[:, 0].reshape(few_a.shape[1], few_b.shape[1]))
    u, v = np.zeros(a.shape[1]), np.zeros(b.shape[1])
    u[: few_a.shape[1]], v[: few_b.shape[1]] = one[:, 0], two[0]
    return u, v, left @ targets[0]


def _ridge(x: Array, y: Array) -> Array:
    """Return the direction of length 1 of a ridge regression."""
    x, y = x - x.mean(axis=0), y - y.mean()
    square = x.T @ x
    penalty = RIDGE * max(float(np.trace(square)) / len(square), 1e-12)
    found = np.linalg.solve(square + penalty * np.eye(len(square)), x.T @ y)
    made: Array = np.asarray(found / max(float(np.linalg.norm(found)), 1e-12), np.float64)
    return made
