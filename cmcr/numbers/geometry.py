"""How vectors lie on the sphere: spread, used dimensions, hubs. Arrays of unit rows in, numbers out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cmcr.numbers.retrieval import Array, cosine, modality_gap

__all__ = ["Hubness", "alignment", "effective_rank", "hubness", "k_occurrence", "modality_gap", "uniformity"]

CHUNK = 1024
"""Rows compared with all others at once; no result depends on it."""


def uniformity(vectors: Array, t: float = 2.0) -> float:
    """Return log mean exp(-t ||x - y||^2) over all pairs of different rows (Wang and Isola, 2020).

    Zero when all rows are equal; it falls as they spread, and with t = 2 is never below -8.

    Args:
        vectors: (N, D) unit vectors, N > 1.
        t: How fast a pair's weight falls with its distance.
    """
    rows = np.asarray(vectors, np.float64)
    total = sum(
        float(np.exp(-2 * t * np.maximum(1 - rows[start : start + CHUNK] @ rows.T, 0)).sum())
        for start in range(0, len(rows), CHUNK)
    )
    squares = np.maximum(1 - (rows**2).sum(axis=1), 0)
    pairs = len(rows) * (len(rows) - 1)
    return float(np.log((total - np.exp(-2 * t * squares).sum()) / pairs))


def alignment(first: Array, second: Array, power: float = 2.0) -> float:
    """Return the mean of ||x_i - y_i||^power over the pairs of rows (Wang and Isola, 2020); 0 is best."""
    distances = np.linalg.norm(np.asarray(first, np.float64) - np.asarray(second, np.float64), axis=1)
    return float(np.mean(distances**power))


def effective_rank(vectors: Array) -> float:
    """Return exp of the entropy of the singular values over their sum (Roy and Vetterli, 2007).

    From 1 (all rows on one line) to the number of dimensions (all used alike). The rows are not centred, as in the
    definition: a modality that sits in a narrow cone has a low rank for that alone.
    """
    values = np.linalg.svd(np.asarray(vectors, np.float64), compute_uv=False)
    share = values[values > 0] / values.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def k_occurrence(gallery: Array, queries: Array | None = None, k: int = 10) -> np.ndarray:
    """Return how often each gallery row is among the ``k`` nearest of the queries.

    Rows that tie for the last places share them, so the counts depend on no order and sum to k x queries.

    Args:
        gallery: (N, D) unit vectors.
        queries: (Q, D) unit vectors; None for the gallery's own rows, none of which counts for itself.
        k: Neighbours a query has; below the number of rows it can find.

    Returns:
        (N,) float64.
    """
    asked = gallery if queries is None else queries
    counts = np.zeros(len(gallery))
    for start in range(0, len(asked), CHUNK):
        scores = cosine(asked[start : start + CHUNK], gallery)
        if queries is None:
            own = np.arange(len(scores))
            scores[own, start + own] = -np.inf
        least = np.partition(scores, -k, axis=1)[:, -k, None]
        above, tied = scores > least, scores == least
        places = (k - above.sum(axis=1)) / tied.sum(axis=1)
        counts += above.sum(axis=0) + places @ tied
    return counts


@dataclass(frozen=True, slots=True)
class Hubness:
    """How unevenly neighbours are spread.

    Attributes:
        skewness: Of the k-occurrences; 0 where they are even, above 1 where a few rows are everybody's neighbours.
        anti_hubs: Share of rows that are nobody's neighbour, so that no query finds them.
    """

    skewness: float
    anti_hubs: float


def hubness(gallery: Array, queries: Array | None = None, k: int = 10) -> Hubness:
    """Return the hubness of a gallery (Radovanovic et al., 2010); arguments as of ``k_occurrence``."""
    counts = k_occurrence(gallery, queries, k)
    spread = float(counts.std())
    # Counts of rows that all tie differ in their last bits only.
    skewness = float(np.mean(((counts - counts.mean()) / spread) ** 3)) if spread > 1e-9 else 0.0
    return Hubness(skewness, float(np.mean(counts == 0)))
