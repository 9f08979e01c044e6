"""Canonical correlation: the directions along which two spaces agree on known pairs, and how far to believe each.

A row enters as it is, or described by the known rows of its own space: the softmax of its cosines to them, in an
orthonormal basis of their kernel. What pairs agree on need not be linear in a frozen space, and a description bends.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

TAUS, RIDGES, POWERS = (0.0, 0.5), (1.0, 3.0, 10.0, 30.0), (0.5, 1.0, 2.0)
"""What ``pick`` tries: temperatures of descriptions (0: rows as they are), ridges relative to the mean eigenvalue of
each side's covariance, and powers of the correlation that weigh a direction on either side."""
RANK, LOOKED_AT = 256, 128
"""Principal directions of a side that maps are made of, and that a choice looks at: beyond them a ridge leaves little,
and the time grows with their cube."""
KEYS = 2048
"""Known rows that describe a row, at most, evenly spread."""
FOLDS = 5
MOST = 1024
"""Pairs that a choice is made on, at most: its matrices grow with their square."""
T = TypeVar("T")
Folds = list[np.ndarray]
"""Row numbers, each held out once."""


class Recipe(NamedTuple):
    """How canonical directions are found: see ``TAUS``, ``RIDGES`` and ``POWERS``.

    >>> from cmcr.numbers.canonical import PREFERRED
    >>> PREFERRED._replace(tau=0.0)
    Recipe(tau=0.0, ridge=3.0, power=1.0)
    """

    tau: float = 0.5
    ridge: float = 3.0
    power: float = 1.0


PREFERRED = Recipe()
"""What is taken unless held-out pairs speak against it by more than the standard error; it held wherever tried."""
RECIPES = tuple(Recipe(*each) for each in itertools.product(TAUS, RIDGES, POWERS))


class Directions(NamedTuple):
    """One side's map onto canonical directions, each weighted.

    Attributes:
        weight: (F, K), of the row's components or of the keys that describe it.
        bias: (K,).
        keys: (F, D) unit rows that describe a row; None: it is taken as it is.
        tau: Temperature of the description.
    """

    weight: Tensor
    bias: Tensor
    keys: Tensor | None = None
    tau: float = 0.0

    def __call__(self, x: Tensor) -> Tensor:
        """Return (N, K) unit rows of (N, D) ones."""
        described = x if self.keys is None else (x @ self.keys.T / self.tau).softmax(dim=1)
        return F.normalize(described @ self.weight + self.bias, dim=1)


class Canonical(NamedTuple):
    """The maps of both sides.

    >>> import torch
    >>> from cmcr.numbers.canonical import Recipe, fit_canonical
    >>> x = torch.nn.functional.normalize(torch.randn(50, 6, generator=torch.Generator().manual_seed(0)), dim=1)
    >>> fit_canonical(x, x.flip(1), Recipe(tau=0.0, ridge=0.01)).cosines(x, x.flip(1)).diagonal().min() > 0.99
    tensor(True)
    """

    x: Directions
    y: Directions

    def cosines(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the (N, M) cosines of (N, D_x) and (M, D_y) rows through the maps."""
        return self.x(x) @ self.y(y).T


def fit_canonical(x: Tensor, y: Tensor, recipe: Recipe) -> Canonical:
    """Return the maps under which paired rows agree most: canonical correlation analysis with a ridge.

    The weight of a direction is a power of its correlation rho on either side. With the power 0.5 a direction counts
    rho in a product of two rows (CSA, Li et al., ICLR 2025); more makes what few pairs agree on by chance count less.

    Args:
        x: (N, D_x) unit rows, N of 2 or more.
        y: (N, D_y) their partners.
        recipe: How.
    """
    return next(_fitted(x, y, recipe.tau, [recipe]))


def pick(x: Tensor, y: Tensor, folds: Folds, recipes: Sequence[Recipe] = RECIPES) -> Recipe:
    """Return the recipe under which held-out pairs rank highest among the rows that are held out with them.

    That is the least mean log rank over the folds. ``PREFERRED``, if among ``recipes``, is only left for one that is
    better by more than the standard error of the difference, pair by pair: few pairs must not choose by luck.
    Rows that a map was fitted on are no measure: it places them beside their partners, out of all others' way.

    Args:
        x: (N, D_x) unit rows.
        y: (N, D_y) their partners.
        folds: Row numbers, see ``folds_of``.
        recipes: To choose from.
    """
    if len(recipes) == 1:
        return recipes[0]
    found: dict[Recipe, list[Tensor]] = {each: [] for each in recipes}
    for known, fold in parts(folds):
        for tau, group in itertools.groupby(sorted(recipes), key=lambda each: each.tau):
            wanted = list(group)
            for recipe, maps in zip(wanted, _fitted(x[known], y[known], tau, wanted, LOOKED_AT), strict=True):
                found[recipe].append(log_ranks(maps.cosines(x[fold], y[fold])))
    return chosen({each: torch.cat(logs) for each, logs in found.items()}, PREFERRED)


def chosen(found: dict[T, Tensor], preferred: T) -> T:
    """Return the key of the least mean; the preferred one unless another is better by more than a standard error.

    Args:
        found: (N,) log ranks of the same pairs, by choice.
        preferred: Need not be among them.
    """
    best = min(found, key=lambda each: float(found[each].mean()))
    if preferred not in found or len(found[best]) < 2:
        return preferred if preferred in found else best
    gain = found[preferred] - found[best]
    return best if float(gain.mean()) > float(gain.std()) / len(gain) ** 0.5 else preferred


def folds_of(count: int, seed: int) -> Folds:
    """Return ``FOLDS`` parts of at most ``MOST`` of ``count`` rows, drawn from ``seed``."""
    order = np.random.default_rng([seed, 1 << 21]).permutation(count)[:MOST]
    return [order[number::FOLDS] for number in range(FOLDS)]


def held_out(x: Tensor, y: Tensor, recipe: Recipe, folds: Folds) -> Iterator[Tensor]:
    """Yield for each fold the (n, n) cosines of its rows through maps that did not see it."""
    for known, fold in parts(folds):
        yield fit_canonical(x[known], y[known], recipe).cosines(x[fold], y[fold])


def log_ranks(cosines: Tensor) -> Tensor:
    """Return the (N,) mean of both directions' log ranks of N pairs, of (N, N) similarities; ties count against us."""
    own = cosines.diagonal()
    ranks = (cosines >= own[:, None]).sum(dim=1), (cosines >= own).sum(dim=0)
    return sum((each.double().log() for each in ranks), torch.zeros(len(own), dtype=torch.double)) / 2


def parts(folds: Folds) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield for each fold the rows of all others, and its own."""
    for number, fold in enumerate(folds):
        yield np.concatenate([each for other, each in enumerate(folds) if other != number]), fold


class _Side(NamedTuple):
    """One side's principal directions, of (N, F) features.

    Attributes:
        mean: (F,) of the features.
        values: (R,) variances along the principal directions, descending.
        vectors: (F, R) the directions.
        level: The mean of all F variances.
        rows: (N, R) coordinates.
        keys: Rows that describe a row; None: features are a row's own components.
        basis: (keys, F) of the kernel, orthonormal.
        tau: Temperature of the description.
    """

    mean: Tensor
    values: Tensor
    vectors: Tensor
    level: Tensor
    rows: Tensor
    keys: Tensor | None
    basis: Tensor | None
    tau: float

    def directions(self, turned: Tensor, ridge: float) -> Directions:
        """Return the map onto (R, K) combinations of the whitened principal directions."""
        weight = self.vectors @ (self.whitening(ridge)[:, None] * turned)
        bias = -self.mean @ weight
        weight = weight if self.basis is None else self.basis @ weight
        keys = None if self.keys is None else self.keys.float()
        return Directions(weight.float(), bias.float(), keys, self.tau)

    def whitening(self, ridge: float) -> Tensor:
        return (self.values + ridge * self.level).rsqrt()


def _side(x: Tensor, tau: float, rank: int) -> _Side:
    x = x.double()
    keys, basis, features = None, None, x
    if tau:
        keys = x[:: -(-len(x) // KEYS)]
        values, vectors = torch.linalg.eigh(((keys @ keys.T - 1) / tau).exp())
        kept = values > 1e-9 * values[-1]
        basis = vectors[:, kept] * values[kept].rsqrt()
        features = (x @ keys.T / tau).softmax(dim=1) @ basis
    mean = features.mean(dim=0)
    centred = features - mean
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(x))
    level = values.clamp_min(0).mean().clamp_min(1e-12)
    values, vectors = values.flip(0)[:rank].clamp_min(0), vectors.flip(1)[:, :rank]
    return _Side(mean, values, vectors, level, centred @ vectors, keys, basis, tau)


def _fitted(x: Tensor, y: Tensor, tau: float, recipes: Sequence[Recipe], rank: int = RANK) -> Iterator[Canonical]:
    """Yield the maps of recipes of one temperature; the costly parts are shared."""
    left, right = _side(x, tau, rank), _side(y, tau, rank)
    cross = left.rows.T @ right.rows / len(x)
    for ridge, group in itertools.groupby(recipes, key=lambda each: each.ridge):
        a, rho, b = torch.linalg.svd(
            left.whitening(ridge)[:, None] * cross * right.whitening(ridge), full_matrices=False
        )
        kept = rho > 1e-6 * rho[0].clamp_min(1e-30)
        for recipe in group:
            weights = rho[kept] ** recipe.power
            turned = (a[:, kept] * weights, b.T[:, kept] * weights)
            yield Canonical(left.directions(turned[0], ridge), right.directions(turned[1], ridge))
