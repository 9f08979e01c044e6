"""Numbers of sound source localisation: boxes, maps and confidences in, numbers out, no files.

cIoU (Senocak et al., 2018; on 224 x 224 pixels as Chen et al., 2021) compares a binary prediction P with a truth G that
may be fractional: sum(P G) / (sum(G) + sum(P where G = 0)). For one true box it is the usual IoU. The numbers of
counterfactual recognition are those of Mo and Morgado (SLAVC, 2022).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

SIDE = 224
"""Pixels of either side of every map."""
THRESHOLDS: Floats = np.arange(21) / 20
"""Where the success curve is sampled: cIoU 0, 0.05, ..., 1."""
HALF = 0.5
"""The cIoU from which a source counts as found."""


def pixels(boxes: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Return the (K, 4) first and one-past-last columns and rows of (K, 4) boxes x0, y0, x1, y1 in fractions.

    Cut off below, as the field's code does; what reaches out of the picture is cut at its edge.
    """
    fractions = np.clip(np.asarray(boxes, np.float64).reshape(-1, 4), 0, 1)
    return np.asarray(np.floor(fractions * SIDE), np.int64)


def masks(boxes: npt.ArrayLike) -> Mask:
    """Return (K, SIDE, SIDE): which pixels lie in each of (K, 4) boxes."""
    x0, y0, x1, y1 = pixels(boxes).T[..., None]
    line = np.arange(SIDE)
    across, down = (x0 <= line) & (line < x1), (y0 <= line) & (line < y1)
    return np.asarray(down[:, :, None] & across[:, None, :], np.bool_)


def truth_map(annotators: Sequence[npt.ArrayLike], votes: int = 1) -> Floats:
    """Return the (SIDE, SIDE) truth: how many of ``votes`` annotators marked each pixel, as a share of at most 1.

    Args:
        annotators: The (K, 4) boxes of each; the pixels of one annotator are the union of its boxes.
        votes: Annotators that make a pixel count fully: 1 for VGG-SS, 2 for Flickr-SoundNet.
    """
    marked = [masks(boxes).any(axis=0) for boxes in annotators]
    return np.minimum(1.0, np.sum(marked, axis=0) / votes) if marked else np.zeros((SIDE, SIDE))


def ciou(predicted: npt.ArrayLike, truth: Floats) -> float:
    """Return the cIoU of a binary (SIDE, SIDE) map; 0 where neither it nor the truth covers a pixel."""
    covered = np.asarray(predicted, bool)
    total = truth.sum() + np.count_nonzero(covered & (truth == 0))
    return float(truth[covered].sum() / total) if total else 0.0


def ciou_of_boxes(boxes: npt.ArrayLike, truth: Floats) -> Floats:
    """Return the (K,) cIoU of each of (K, 4) boxes taken as a map; by sums over corners, so thousands cost little."""
    corners = pixels(boxes)
    hit, wrong = _sums(truth, corners), _sums(np.asarray(truth == 0, np.float64), corners)
    total = truth.sum() + wrong
    return np.asarray(np.divide(hit, total, out=np.zeros_like(hit), where=total > 0), np.float64)


def _sums(values: Floats, corners: npt.NDArray[np.int64]) -> Floats:
    table = np.pad(values.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    x0, y0, x1, y1 = corners.T
    x1, y1 = np.maximum(x0, x1), np.maximum(y0, y1)
    return np.asarray(table[y1, x1] - table[y0, x1] - table[y1, x0] + table[y0, x0], np.float64)


def mean_map(boxes: npt.ArrayLike, scores: npt.ArrayLike) -> Floats:
    """Return a (SIDE, SIDE) map: each pixel the mean of the (K,) scores of the boxes over it; NaN under none.

    Means are rounded to float32, so that pixels under equal scores are equal, however many boxes lie over them.
    """
    x0, y0, x1, y1 = pixels(boxes).T
    x1, y1 = np.maximum(x0, x1), np.maximum(y0, y1)
    total = np.zeros((2, SIDE + 1, SIDE + 1))
    for sign, rows, columns in ((1, y0, x0), (-1, y0, x1), (-1, y1, x0), (1, y1, x1)):
        np.add.at(total[0], (rows, columns), sign * np.asarray(scores, np.float64))
        np.add.at(total[1], (rows, columns), sign)
    summed, count = total.cumsum(axis=1).cumsum(axis=2)[:, :-1, :-1]
    mean = np.divide(summed, count, out=np.full(count.shape, np.nan), where=count > 0.5)
    return np.asarray(mean.astype(np.float32), np.float64)


def upper_half(values: Floats) -> Mask:
    """Return which pixels of an (H, W) map lie above the median: at most half, fewer where many are alike.

    NaN counts lowest. Stretching a map to 0..1 first, as the field does, changes nothing here.
    """
    known = np.where(np.isnan(values), -np.inf, values)
    return np.asarray(known > np.sort(known, axis=None)[known.size // 2], np.bool_)


def upper_quarter(values: Floats) -> float:
    """Return SLAVC's confidence of a map: the mean of its greatest quarter of pixels; NaN is left out."""
    known = np.sort(values[~np.isnan(values)])
    return float(known[-max(1, values.size // 4) :].mean())


def best_half(truth: Floats) -> float:
    """Return the cIoU of the best map that covers half of the pixels: what the rule of the median allows at most."""
    flat = np.sort(truth, axis=None)[::-1][: truth.size // 2]
    return float(flat.sum() / (truth.sum() + np.count_nonzero(flat == 0)))


def success(values: npt.ArrayLike) -> Floats:
    """Return the (21,) shares of (N,) cIoU that reach each of ``THRESHOLDS``."""
    return np.asarray((np.asarray(values, np.float64)[:, None] >= THRESHOLDS).mean(axis=0), np.float64)


def success_area(values: npt.ArrayLike) -> float:
    """Return AUC: the trapezoid area under the success curve; a cIoU of 0.5 throughout gives 0.525."""
    curve = success(values)
    return float(((curve[1:] + curve[:-1]) / 2).mean())


def localized(values: npt.ArrayLike) -> float:
    """Return cIoU@0.5: the share of (N,) cIoU that reach 0.5."""
    return float(np.mean(np.asarray(values) >= HALF))


def location_accuracy(values: npt.ArrayLike, present: npt.ArrayLike) -> float:
    """Return LocAcc: the share of cIoU *above* 0.5 among the (N,) samples with an object; NaN without any."""
    own = np.asarray(values)[np.asarray(present, bool)]
    return float(np.mean(own > HALF)) if len(own) else float("nan")


def precision_recall(
    confidence: npt.ArrayLike, present: npt.ArrayLike, values: npt.ArrayLike, thresholds: npt.ArrayLike
) -> tuple[Floats, Floats]:
    """Return the (T,) precisions and recalls of (N,) samples at (T,) confidence thresholds.

    A sample at or above the threshold is a true positive when it has an object and its cIoU reaches 0.5, otherwise a
    false one; below the threshold one with an object is a false negative. So an object that was found in the wrong
    place is no false negative, and what recall divides by changes with the threshold: reproduced as published. An empty
    denominator gives 1.
    """
    score, has = np.asarray(confidence, np.float64), np.asarray(present, bool)
    order = np.argsort(score, kind="stable")
    right = has & (np.asarray(values) >= HALF)
    first = np.searchsorted(score[order], np.asarray(thresholds, np.float64), side="left")
    rights, objects = (np.concatenate([[0], np.cumsum(flags[order])]) for flags in (right, has))
    true, predicted, missed = rights[-1] - rights[first], len(score) - first, objects[first]
    return _share(true, predicted), _share(true, true + missed)


def _share(part: npt.NDArray[np.int64], whole: npt.NDArray[np.int64]) -> Floats:
    return np.divide(part, whole, out=np.ones(len(part)), where=whole > 0)


def published_precision(confidence: npt.ArrayLike, present: npt.ArrayLike, values: npt.ArrayLike) -> float:
    """Return AP as SLAVC's published code computes it, for comparison with its tables.

    Thresholds are every (N // 200)-th confidence downward from the second greatest; precision is replaced by its
    greatest value from there on, and multiplied by the recall gained up to the *next* threshold. What is recalled at
    the first threshold is not counted, so that even perfection stays below 1: with k objects at 1 - 2/k or so.
    """
    ordered = np.sort(np.asarray(confidence, np.float64))
    thresholds = ordered[:-1][:: -max(1, len(ordered) // 200)]
    precision, recall = precision_recall(confidence, present, values, thresholds)
    return float(np.sum(_envelope(precision)[:-1] * np.diff(recall)))


def average_precision(confidence: npt.ArrayLike, present: npt.ArrayLike, values: npt.ArrayLike) -> float:
    """Return AP over every distinct confidence, from recall 0 on; perfection is 1."""
    thresholds = np.unique(np.asarray(confidence, np.float64))[::-1]
    precision, recall = precision_recall(confidence, present, values, thresholds)
    return float(np.sum(_envelope(precision) * np.diff(recall, prepend=0.0)))


def _envelope(precision: Floats) -> Floats:
    return np.asarray(np.maximum.accumulate(precision[::-1])[::-1], np.float64)


def greatest_f1(confidence: npt.ArrayLike, present: npt.ArrayLike, values: npt.ArrayLike) -> float:
    """Return max-F1: the greatest F1 over about ten confidence quantiles, every (N // 10)-th from the least upward."""
    ordered = np.sort(np.asarray(confidence, np.float64))
    precision, recall = precision_recall(confidence, present, values, ordered[:: max(1, len(ordered) // 10)])
    both = precision + recall
    return float(np.max(np.divide(2 * precision * recall, both, out=np.zeros_like(both), where=both > 0), initial=0.0))
