"""Is one better than the other, on the same queries? Paired tests of arrays, with fixed seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cmcr.numbers import retrieval as metrics

CHUNK = 256
"""Sign patterns drawn at once."""


def mcnemar(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Return the two-sided p-value of McNemar's exact test on two (N,) arrays of hits.

    Only queries that one hits and the other misses speak; were the two alike, each would fall either way with
    probability a half.
    """
    one, other = np.asarray(first, bool), np.asarray(second, bool)
    wins, losses = int((one & ~other).sum()), int((other & ~one).sum())
    number = wins + losses
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, number + 1)))])
    few = np.arange(min(wins, losses) + 1)
    logs = log_factorial[number] - log_factorial[few] - log_factorial[number - few] - number * np.log(2)
    return min(1.0, 2 * float(np.exp(logs).sum()))


def permutation_test(first: npt.ArrayLike, second: npt.ArrayLike, samples: int = 10_000, seed: int = 0) -> float:
    """Return the two-sided p-value of the difference of means of two paired (N,) arrays, by exchanging pairs at random.

    All 2^M exchanges of the M pairs that differ are counted where they are no more than ``samples``; otherwise so many
    are drawn, and the one at hand is counted with them, so that p is never 0.
    """
    difference = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    difference = difference[difference != 0]
    found = abs(float(difference.sum())) * (1 - 1e-9)  # sums in another order may fall short of an equal one
    if len(difference) < 64 and 2 ** len(difference) <= samples:
        patterns = np.arange(2 ** len(difference))[:, None] >> np.arange(len(difference)) & 1
        return float(np.mean(np.abs((2 * patterns - 1) @ difference) >= found))
    rng, extreme = np.random.default_rng(seed), 0
    for start in range(0, samples, CHUNK):
        signs = 2.0 * rng.integers(0, 2, (min(CHUNK, samples - start), len(difference)), np.int8) - 1
        extreme += int((np.abs(signs @ difference) >= found).sum())
    return (1 + extreme) / (1 + samples)


def difference_interval(
    first: npt.ArrayLike, second: npt.ArrayLike, samples: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of mean(first) - mean(second); a query is drawn with both its values."""
    difference = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    return metrics.bootstrap(difference, samples=samples, level=level, seed=seed)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for all being looked at (Holm, 1979), in the given order."""
    count = len(p_values)
    order = sorted(range(count), key=lambda number: p_values[number])
    adjusted, least = [0.0] * count, 0.0
    for rank, number in enumerate(order):
        least = max(least, min(1.0, (count - rank) * p_values[number]))
        adjusted[number] = least
    return adjusted
