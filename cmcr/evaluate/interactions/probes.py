"""What probes say of rows that they were not fitted on: of each modality alone, of both, and of products of directions.

Each source of information is given the same kinds of probe: a linear one, and one on products of two directions. Were
products taken of both modalities only, what one of them hides from a linear probe would pass for synergy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cmcr.numbers.discriminant import fit_discriminant, prepare
from cmcr.numbers.products import FEATURES, Array, fit_products, whiten

Numbers = npt.NDArray[np.integer]
Fold = tuple[Numbers, Numbers]
"""Numbers of the rows that are learnt from, and of those that are held out."""
SOURCES = {"first": [0, 3, 6], "second": [1, 4, 7], "both": list(range(9))}
"""Which of nine probes speak for a source: linear, one product, and several, each of first, second and both."""
NEAR = (1, FEATURES)
"""How many products a probe has: one is learnt from few rows, several tell more classes."""


class HeldOut(NamedTuple):
    """Log odds (9, N, C) of the probes, of rows that they were not fitted on, and the class numbers (N,) of these."""

    log_odds: Array
    labels: Numbers

    def of(self, source: str) -> Array:
        """Return the (J, N, C) that speak for a source."""
        return self.log_odds[list(SOURCES[source])]

    def linear(self, source: str) -> Array:
        """Return the (1, N, C) of the linear probe of a source."""
        return self.log_odds[[list(SOURCES).index(source)]]


def hold_out(
    first: Array, second: Array, labels: Sequence[Numbers], classes: int, folds: Sequence[Fold]
) -> list[HeldOut]:
    """Return what probes say of the held-out rows, for each of several labels of the same rows.

    Args:
        first: (N, D1) vectors.
        second: (N, D2) the same rows of the other modality.
        labels: Each (N,) class numbers.
        classes: C.
        folds: Rows that are in no fold's held-out part are left out of the result.
    """
    made = [_fold(first, second, labels, classes, fold) for fold in folds]
    measured = np.concatenate([held for _, held in folds])
    return [
        HeldOut(np.concatenate([fold[number] for fold in made], axis=1), each[measured])
        for number, each in enumerate(labels)
    ]


def _fold(first: Array, second: Array, labels: Sequence[Numbers], classes: int, fold: Fold) -> list[Array]:
    """Return (9, N held out, C) for each of the labels."""
    train, held = fold
    sides = (first, second, np.concatenate([first, second], axis=1))
    rows = [prepare(each[train]) for each in sides]
    a, b = (whiten(each[train]).of(each) for each in sides[:2])
    pairs = ((a, a), (b, b), (a, b))
    found = []
    for each in labels:
        known = each[train]
        said = [fit_discriminant(x, known, classes).log_odds(of[held]) for x, of in zip(rows, sides, strict=True)]
        products = [_products(*pair, known, classes, train) for pair in pairs]
        for number in NEAR:
            for x in products:
                probe = fit_discriminant(prepare(x[train, :number]), known, classes)
                said.append(probe.log_odds(x[held, :number]))
        found.append(np.stack(said))
    return found


def _products(a: Array, b: Array, known: Numbers, classes: int, train: Numbers) -> Array:
    """Return the products (N, F) of all rows, learnt from some."""
    u, v = fit_products(a[train], b[train], known, classes)
    made: Array = (a @ u) * (b @ v)
    return made
