"""A measure of a connection without pairs: do rows of two memories meet that lie by the same held-out overlap row?"""

from __future__ import annotations

import math

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

NEAREST = 10


class Agreement:
    """Recall at 10 of matches that follow from held-out overlap rows alone.

    In its own source space each outer row has a nearest overlap row (centred). A row of one side and a row of the other
    match if it is the same for both. Of each row with a match: is one among the 10 rows of the other side that the
    connected space puts nearest? The overlap rows must be held out; the outer rows may have been trained on, for no
    training knows which of them match.

    Attributes:
        chance: What a random order would reach.
        rows: Outer rows, of both sides, that have a match; 0: the measure says nothing.
    """

    def __init__(self, overlap: tuple[Tensor, Tensor], outer: tuple[Tensor, Tensor]) -> None:
        """Find the matches.

        Args:
            overlap: (N, D) unit vectors of the held-out overlap in each source space; row i is the same item in both.
            outer: (M, D) unit vectors of each side's outer modality.
        """
        near = [(_centred(x) @ _centred(t).T).argmax(dim=1) for x, t in zip(outer, overlap, strict=True)]
        self._matches = near[0][:, None] == near[1]
        self.rows = sum(int(matches.any(dim=1).sum()) for matches in (self._matches, self._matches.T))
        self.chance = _both(_chance(self._matches), _chance(self._matches.T))

    def __call__(self, x: Tensor, y: Tensor) -> float:
        """Return the measure, in [0, 1], for (M, K) unit vectors of the two sides in the connected space."""
        scores = x @ y.T
        return _both(_recall(scores, self._matches), _recall(scores.T, self._matches.T))


def _recall(scores: Tensor, matches: Tensor) -> float:
    found = scores.topk(min(NEAREST, scores.shape[1]), dim=1).indices
    return float(matches.gather(1, found).any(dim=1)[matches.any(dim=1)].double().mean())


def _chance(matches: Tensor) -> float:
    """Return the mean over rows with a match of the chance that 10 rows drawn at random hold one."""
    rows, drawn = matches.shape[1], min(NEAREST, matches.shape[1])
    counts = [count for count in matches.sum(dim=1).tolist() if count]
    missed = [math.comb(rows - count, drawn) / math.comb(rows, drawn) for count in counts]
    return 1 - sum(missed) / len(missed) if missed else math.nan


def _both(one: float, other: float) -> float:
    return (one + other) / 2


def _centred(x: Tensor) -> Tensor:
    return F.normalize(x - x.mean(dim=0), dim=1)
