"""Semantic consistency (what a memory recalls for an overlap row) and semantic completion (Gaussian noise)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cmcr.devices import narrow_into, narrow_products, narrowed, tile_rows
from cmcr.ranks import ALONE, Ranks

HEADROOM = 40.0
"""Logits may exceed their shift by this much."""
LEAST = -87.0
"""Exponents below count as this: what float32 can no longer show well takes a processor fifty times as long. A sum is
at least 1, and e^LEAST is lost beside it."""
NARROW_QUERIES, NARROW_ROWS = 2, 4
"""So many times as many queries and rows has a tile of bf16 values: their products want it, and rounded parts are
fewer."""
_SAFE = math.exp(HEADROOM - 0.001)
"""Weights of no greater sum exceed it nowhere, whatever was rounded."""

Blocks = Callable[[], Iterable[np.ndarray]]
"""Yields the memory's rows in order, (n, D) float32 unit vectors a block; called once per block of queries."""


def recall(queries: Tensor, blocks: Blocks, tau: float) -> Tensor:
    """Return softmax(q K^T / tau) K over the whole memory K, streamed (C-MCR, inter-modality consistency).

    Sums of shifted exponentials make the result that of the full softmax, whatever the blocks. Memory beyond the
    queries is that of a block and a tile.

    Args:
        queries: (Q, D) unit vectors of the memory's own space.
        blocks: The memory.
        tau: Temperature (tau1).

    Returns:
        (Q, D) weighted means, norm at most 1.
    """
    narrow = narrow_products(queries.device.type)
    some = queries.split(tile_rows(queries.device.type) * (NARROW_QUERIES if narrow else 1))
    room = _Room(some[0], narrow)
    parts = [_Recalled(part, tau, queries.shape[1], room) for part in some]
    for block in blocks():
        keys = torch.as_tensor(block, device=queries.device)
        values = narrowed(keys) if narrow else keys
        for part in parts:
            part.add(keys, values)
    return torch.cat([part.mean / part.total for part in parts])


def recall_through(queries: Tensor, keys: Tensor, values: Tensor, tau: float) -> Tensor:
    """Return softmax(q K^T / tau) V; no more than a tile of the softmax is held.

    Args:
        queries: (Q, D) unit vectors, a thousand or so.
        keys: (M, D) unit vectors.
        values: (M, K) rows of the same items, float32 or ``as_values``.
        tau: Temperature.

    Returns:
        (Q, K) weighted means.
    """
    recalled = _Recalled(queries, tau, values.shape[1], _Room(queries, values.dtype == torch.bfloat16))
    recalled.add(keys, values)
    return recalled.mean / recalled.total


def as_values(rows: Tensor) -> Tensor:
    """Return float32 rows as the values of many recalls are best multiplied: as bf16 where ``narrow_products``.

    Rows of zeros are then added up to a multiple of 32.
    """
    return narrowed(rows) if narrow_products(rows.device.type) else rows


class _Room:
    """Room for a tile of logits, and in bf16 where the values are; queries share it, so that it stays in a cache."""

    def __init__(self, queries: Tensor, narrow: bool) -> None:
        self.narrow = narrow
        self.rows = tile_rows(queries.device.type) * (NARROW_ROWS if narrow else 1)
        self.logits = queries.new_empty(len(queries), self.rows)
        self.weights = torch.empty_like(self.logits, dtype=torch.bfloat16) if narrow else self.logits


class _Recalled:
    """What some queries recall of the rows seen so far: sums of exp(logit - shift), alone and times the values.

    Where the values are bf16, so are the weights that they are multiplied with, and each tile's product; their sums are
    float32, as are the logits, in which a rounding would count a hundredfold.
    """

    def __init__(self, queries: Tensor, tau: float, dim: int, room: _Room) -> None:
        self.scaled, self.room = queries / tau, room
        self.shift = queries.new_full((len(queries), 1), float("-inf"))
        self.deep, self.total = False, torch.zeros_like(self.shift)
        self.mean = queries.new_zeros(len(queries), dim)
        self.part = self.mean.bfloat16() if room.narrow else self.mean

    def add(self, keys: Tensor, values: Tensor) -> None:
        """Take in (n, D) more rows and their (n, K) values, a tile at a time."""
        for start in range(0, len(keys), self.room.rows):
            here = slice(start, start + self.room.rows)
            tile = keys[here]
            weights, total = self._weights(tile)
            # Where no row's sum is above e^HEADROOM, no weight is: a look for the greatest of each row is spared.
            if not bool(total.max() <= _SAFE):
                self._raise(self._logits(tile))
                weights, total = self._weights(tile)
            self.total += total
            if self.room.narrow:
                part = values[here]
                rounded = narrow_into(self.room.weights[: len(weights), : len(part)], weights)
                self.mean += torch.mm(rounded, part, out=self.part)
            else:
                self.mean.addmm_(weights, values[here])

    def _logits(self, tile: Tensor) -> Tensor:
        return torch.mm(self.scaled, tile.T, out=self.room.logits[: len(self.scaled), : len(tile)])

    def _weights(self, tile: Tensor) -> tuple[Tensor, Tensor]:
        """Return (Q, n) exp(logit - shift) and its row sums; what overflows is infinite, or not a number."""
        logits = self._logits(tile).sub_(self.shift)
        if self.deep:
            logits.clamp_min_(LEAST)
        weights = logits.exp_()
        return weights, weights.sum(dim=1, keepdim=True)

    def _raise(self, logits: Tensor) -> None:
        """Raise the shift to the greatest logit where that is more than HEADROOM above it.

        Any shift gives the same softmax. One that lies HEADROOM too low still leaves float32 room for sums of billions,
        so sums are hardly ever scaled again.
        """
        top = logits.amax(dim=1, keepdim=True)
        if bool((top > self.shift + HEADROOM).any()):
            higher = torch.maximum(top, self.shift)
            shrink = (self.shift - higher).exp_()
            self.total *= shrink
            self.mean *= shrink
            self.shift = higher
            self.deep = self.deep or bool((logits.amin(dim=1, keepdim=True) < higher + LEAST).any())


def recall_nearest(scores: Tensor, found: Tensor, tau: float) -> Tensor:
    """Return the softmax-weighted mean of the memory rows found nearest to each query, (Q, D).

    Args:
        scores: (Q, K) cosines of what was found; minus infinity where less was found.
        found: (Q, K, D) its rows.
        tau: Temperature (tau1).
    """
    return torch.einsum("qk,qkd->qd", (scores / tau).softmax(dim=1), found)


def complete(x: Tensor, variance: float, generator: torch.Generator, ranks: Ranks = ALONE) -> Tensor:
    """Semantic completion (intra-modality): normalize(x + theta), theta ~ N(0, variance I), fresh at each call.

    Args:
        x: (B, D) rows; pseudo rows may have a norm below 1.
        variance: Per component; 0 only normalises.
        generator: Where the noise comes from.
        ranks: The processes that hold the joint batch's other rows; each draws for all and takes its part.
    """
    if variance:
        joint = torch.randn((ranks.size * len(x), *x.shape[1:]), generator=generator, device=generator.device)
        x = joint.chunk(ranks.size)[ranks.rank].mul_(variance**0.5).to(x).add_(x)
    return F.normalize(x, dim=1)
