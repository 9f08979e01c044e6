"""How good class probabilities are: accuracy, overall and by class, and calibration. Arrays in, numbers out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def accuracy(probabilities: NDArray[np.floating], truth: NDArray[np.integer]) -> float:
    """Return the share of rows whose most probable class is the true one; a tie counts as wrong.

    Args:
        probabilities: (N, C), N > 0.
        truth: (N,) class numbers.
    """
    return float(_right(probabilities, truth).mean())


def class_accuracies(probabilities: NDArray[np.floating], truth: NDArray[np.integer]) -> list[float | None]:
    """Return the accuracy over the rows of each of the C classes; None where a class has no row."""
    right = _right(probabilities, truth)
    own = [right[truth == number] for number in range(probabilities.shape[1])]
    return [float(each.mean()) if len(each) else None for each in own]


def expected_calibration_error(
    probabilities: NDArray[np.floating], truth: NDArray[np.integer], bins: int = 15
) -> float:
    """Return how far confidence and accuracy lie apart: ECE with bins of equal width (Guo et al., 2017).

    Sum over bins of (share of rows in the bin) * |accuracy - mean confidence|; 0 is calibrated.

    Args:
        probabilities: (N, C), rows that sum to 1.
        truth: (N,) class numbers.
        bins: How many parts [0, 1] is cut into.
    """
    confidence, right = probabilities.max(axis=1), _right(probabilities, truth)
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    apart = [abs(float((right[place == b] - confidence[place == b]).sum())) for b in range(bins)]
    return sum(apart) / len(truth)


def _right(probabilities: NDArray[np.floating], truth: NDArray[np.integer]) -> NDArray[np.float64]:
    own = probabilities[np.arange(len(truth)), truth]
    others = np.array(probabilities)
    others[np.arange(len(truth)), truth] = -np.inf
    right: NDArray[np.float64] = (own > others.max(axis=1)).astype(np.float64)
    return right
