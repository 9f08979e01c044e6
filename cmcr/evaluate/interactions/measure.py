"""From what probes say of held-out rows to bits that are shared, in one modality, or in both together only."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from cmcr.evaluate.interactions.probes import HeldOut, Numbers
from cmcr.numbers.calibration import Blend, fit_blend
from cmcr.numbers.decomposition import Parts, entropy, mutual_information, parts_of, union_information
from cmcr.numbers.products import Array

ROUNDS = 20
TOLERANCE = 1e-3
"""Bits that ten more steps of the union must win."""


@dataclass(frozen=True)
class Estimate:
    """Bits of one label.

    Attributes:
        parts: Shared, unique to the first, unique to the second, and only in both together.
        entropy: What the label needs in all.
        lost: What putting rows into cells took from the first's and the second's information, the larger of the two.
        blends: Of each source; where another estimate of nearly the same rows may begin.
        cells: (N,) number of each row's cell, by source.
        union: (C, K1, K2) least informative joint distribution.
    """

    parts: Parts
    entropy: float
    lost: float
    blends: dict[str, Blend]
    cells: dict[str, Numbers]
    union: Array

    @property
    def missing(self) -> float:
        """What no probe found."""
        return max(0.0, self.entropy - self.parts.total)

    def shares(self) -> dict[str, float]:
        """Return the parts, and what was not found, as shares of what the label needs."""
        found = {**self.parts._asdict(), "not found": self.missing}
        return {name: bits / max(self.entropy, 1e-12) for name, bits in found.items()}


def estimate(held: HeldOut, cells: int = 1, near: Estimate | None = None) -> Estimate:
    """Return the bits of a label.

    The information of a source is the entropy of the label less the cross-entropy of its probes on held-out rows: what
    these probes find of it (V-information: Xu et al., ICLR 2020). The union is computed from the joint distributions
    of (group of a modality's predictions, class): both modalities' predictions enter, and never which row has which
    two of them.

    Args:
        held: What the probes say.
        cells: Most groups of predictions of a modality.
        near: An estimate of nearly the same rows, by whose groups this one is made.
    """
    labels = held.labels
    counts = np.bincount(labels, minlength=held.log_odds.shape[2]) / len(labels)
    need, blends, said, known = entropy(counts), {}, {}, {}
    for source in ("first", "second", "both"):
        odds = held.of(source)
        blends[source] = fit_blend(odds, labels, near.blends[source] if near else None)
        said[source] = blends[source].probabilities(odds)
        known[source] = need - _cross_entropy(said[source], labels)
    grouped = near.cells if near else {source: _cells(said[source], cells) for source in ("first", "second")}
    sizes = near.union.shape[1:] if near else [int(each.max()) + 1 for each in grouped.values()]
    one, two = (_table(said[name], grouped[name], size, counts) for name, size in zip(grouped, sizes, strict=True))
    coarse = mutual_information(one), mutual_information(two)
    union, at = union_information(one, two, near.union if near else None, TOLERANCE)
    shared = min(max(0.0, sum(coarse) - union), known["first"], known["second"])
    parts = parts_of(known["first"], known["second"], known["first"] + known["second"] - shared, known["both"])
    lost = max(known["first"] - coarse[0], known["second"] - coarse[1], 0.0)
    return Estimate(parts, need, lost, blends, grouped, at)


def drawn(held: HeldOut, of: Estimate, rng: np.random.Generator) -> Estimate:
    """Return the estimate of as many rows, drawn with replacement."""
    rows = rng.integers(len(held.labels), size=len(held.labels))
    near = replace(of, cells={source: numbers[rows] for source, numbers in of.cells.items()})
    return estimate(HeldOut(held.log_odds[:, rows], held.labels[rows]), near=near)


def right(held: HeldOut, source: str, products: bool) -> np.ndarray:
    """Return (N,) bools: whether the most probable class is the true one, by the linear probe or by all of a source."""
    odds = held.of(source) if products else held.linear(source)
    said = fit_blend(odds, held.labels).probabilities(odds)
    hits: np.ndarray = said.argmax(axis=1) == held.labels
    return hits


def _cross_entropy(said: Array, labels: Numbers) -> float:
    return float(-np.log2(np.maximum(said[np.arange(len(labels)), labels], 1e-300)).mean())


def _table(said: Array, cells: Numbers, size: int, counts: Array) -> Array:
    """Return the (K, C) distribution of groups and classes that the predictions claim, with the true class shares."""
    table = np.zeros((size, said.shape[1]))
    np.add.at(table, cells, said / len(said))
    made: Array = table * np.divide(counts, table.sum(axis=0), out=np.zeros_like(counts), where=counts > 0)
    return made


def _cells(said: Array, cells: int) -> Numbers:
    """Return (N,) groups of alike predictions: k-means of their roots, from centres that lie far from each other."""
    x = np.sqrt(said)
    centres = [x[np.argmax(((x - x.mean(axis=0)) ** 2).sum(axis=1))]]
    far = ((x - centres[0]) ** 2).sum(axis=1)
    while len(centres) < cells and far.max() > 1e-6:
        centres.append(x[far.argmax()])
        far = np.minimum(far, ((x - centres[-1]) ** 2).sum(axis=1))
    middle = np.stack(centres)
    for _ in range(ROUNDS):
        nearest = ((middle**2).sum(axis=1) - 2 * x @ middle.T).argmin(axis=1)
        sizes = np.bincount(nearest, minlength=len(middle))
        sums = np.zeros_like(middle)
        np.add.at(sums, nearest, x)
        middle = np.where(sizes[:, None] > 0, sums / np.maximum(sizes, 1)[:, None], middle)
    found: Numbers = np.unique(nearest, return_inverse=True)[1]
    return found
