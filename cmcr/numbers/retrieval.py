"""Numbers of retrieval and classification: arrays in, numbers out, no files.

Recall here is the hit rate: the share of queries whose item is among the first k. Ties always count against the result,
so a collapsed space, where everything is equally similar, scores at the bottom and not at random.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


def cosine(queries: npt.ArrayLike, gallery: npt.ArrayLike) -> Array:
    """Return the (Q, G) cosines of (Q, D) and (G, D) unit vectors as float32.

    The products are summed in float64 and rounded once. A float32 matrix product gives equal vectors scores that differ
    in the last bits, depending on the shape of the block they sit in; this way equal vectors tie exactly.
    """
    products = np.asarray(queries, np.float64) @ np.asarray(gallery, np.float64).T
    return np.asarray(products, np.float32)


def ranks_from_scores(scores: npt.ArrayLike, truth: npt.ArrayLike) -> Rows:
    """Return the (Q,) ranks, from 1, of column ``truth[i]`` in row i of the (Q, G) ``scores``.

    The rank is one more than the number of *other* columns that score at least as high; a score that is not a number
    ranks last.
    """
    table, columns = np.asarray(scores), np.asarray(truth, np.int64)
    own = np.take_along_axis(table, columns[:, None], axis=1)
    return np.asarray(np.where(np.isnan(own[:, 0]), table.shape[1], (~(table < own)).sum(axis=1)), np.int64)


def ranks(queries: Array, gallery: Array, truth: npt.ArrayLike | None = None, chunk: int = 1024) -> Rows:
    """Return the (Q,) ranks of gallery row ``truth[i]`` for query i, by cosine, ``chunk`` queries at a time.

    Args:
        queries: (Q, D) unit vectors.
        gallery: (G, D) unit vectors.
        truth: (Q,) rows of the gallery; None for row i belonging to query i.
        chunk: Queries scored at once; memory is 8 x chunk x G bytes. The result does not depend on it.
    """
    columns = np.arange(len(queries)) if truth is None else np.asarray(truth, np.int64)
    parts = [
        ranks_from_scores(cosine(queries[start : start + chunk], gallery), columns[start : start + chunk])
        for start in range(0, len(queries), chunk)
    ]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def recall_at(rank: npt.ArrayLike, k: int) -> float:
    """Return the share of ranks that are at most ``k``."""
    return float(np.mean(np.asarray(rank) <= k))


def chance_recall(gallery: int, k: int) -> float:
    """Return the recall@k of guessing: k of ``gallery`` items, one of which is right."""
    return min(1.0, k / gallery)


def median_rank(rank: npt.ArrayLike) -> float:
    """Return the median rank; 1 is perfect and (G + 1) / 2 is chance."""
    return float(np.median(np.asarray(rank)))


def mean_normalised_rank(rank: npt.ArrayLike, gallery: int) -> float:
    """Return the mean of (rank - 1) / (G - 1): 0 is perfect, 0.5 is chance. One minus it is the area under the ROC."""
    return float(np.mean((np.asarray(rank) - 1) / max(gallery - 1, 1)))


def average_precision(scores: npt.ArrayLike, relevant: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the (Q,) average precisions of a (Q, G) score table with a (Q, G) table of what is relevant.

    A relevant item's precision is taken over everything that scores at least as high, as scikit-learn does; with one
    relevant item it is 1 / rank. A query without a relevant item gives NaN: it has no precision to average.
    """
    table, wanted = np.asarray(scores), np.asarray(relevant, bool)
    return np.array([_precision(*pair) for pair in zip(table, wanted, strict=True)], np.float64)


def _precision(scores: npt.NDArray[np.floating], relevant: npt.NDArray[np.bool_]) -> float:
    if not relevant.any():
        return float("nan")
    own = scores[relevant]
    above_or_equal = len(scores) - np.searchsorted(np.sort(scores), own, side="left")
    relevant_above_or_equal = len(own) - np.searchsorted(np.sort(own), own, side="left")
    return float(np.mean(relevant_above_or_equal / above_or_equal))


def mean_average_precision(
    queries: Array, gallery: Array, query_labels: npt.ArrayLike, gallery_labels: npt.ArrayLike, chunk: int = 1024
) -> float:
    """Return mAP by cosine; relevant is what carries the query's label, and queries without any are left out."""
    mine, theirs = np.asarray(query_labels), np.asarray(gallery_labels)
    parts = [
        average_precision(cosine(queries[start : start + chunk], gallery), mine[start : start + chunk, None] == theirs)
        for start in range(0, len(queries), chunk)
    ]
    values = np.concatenate(parts) if parts else np.zeros(0)
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def top_k_accuracy(predicted: npt.ArrayLike, truth: npt.ArrayLike, k: int = 1) -> float:
    """Return the share of rows of (N, K) labels, best first, that hold ``truth[i]`` among their first k."""
    return float(np.mean((np.asarray(predicted)[:, :k] == np.asarray(truth)[:, None]).any(axis=1)))


def modality_gap(first: Array, second: Array) -> float:
    """Return the distance between the centres of two sets of unit vectors, from 0 to 2 (Liang et al., 2022)."""
    return float(np.linalg.norm(np.mean(first, axis=0, dtype=np.float64) - np.mean(second, axis=0, dtype=np.float64)))


def bootstrap(
    values: npt.ArrayLike,
    statistic: Callable[[npt.NDArray[np.float64]], float] = lambda sample: float(np.mean(sample)),
    samples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of a statistic of (N,) values, e.g. ``ranks <= 1`` for recall@1."""
    data, rng = np.asarray(values, np.float64), np.random.default_rng(seed)
    drawn = [statistic(data[rng.integers(len(data), size=len(data))]) for _ in range(samples)]
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
