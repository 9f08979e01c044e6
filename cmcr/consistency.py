"""Semantic consistency (what a memory recalls for an overlap row) and semantic completion (Gaussian noise)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

Blocks = Callable[[], Iterable[np.ndarray]]
"""Yields the memory's rows in order, (n, D) float32 unit vectors a block; called once per block of queries."""


def recall(queries: Tensor, blocks: Blocks, tau: float) -> Tensor:
    """Return softmax(q K^T / tau) K over the whole memory K, streamed (C-MCR, inter-modality consistency).

    A running maximum and sum (log-sum-exp) make the result that of the full softmax, whatever the blocks.

    Args:
        queries: (Q, D) unit vectors of the memory's own space.
        blocks: The memory.
        tau: Temperature (tau1).

    Returns:
        (Q, D) weighted means, norm at most 1.
    """
    top = queries.new_full((len(queries), 1), float("-inf"))
    total = torch.zeros_like(top)
    mean = torch.zeros_like(queries)
    for block in blocks():
        keys = torch.as_tensor(block, device=queries.device)
        logits = queries @ keys.T / tau
        higher = torch.maximum(top, logits.amax(dim=1, keepdim=True))
        weights = (logits - higher).exp_()
        shrink = (top - higher).exp_()
        total = total * shrink + weights.sum(dim=1, keepdim=True)
        mean = mean * shrink + weights @ keys
        top = higher
    return mean / total


def recall_top_k(queries: Tensor, blocks: Blocks, tau: float, k: int) -> Tensor:
    """Return the softmax-weighted mean of only the ``k`` memory rows nearest to each query, (Q, D).

    Equal similarities go to the earlier row. ``k`` above the memory's size is the full softmax.
    """
    scores = queries.new_empty(len(queries), 0)
    found = queries.new_empty(len(queries), 0, queries.shape[1])
    for block in blocks():
        keys = torch.as_tensor(block, device=queries.device)
        similarity = queries @ keys.T
        best = torch.sort(similarity, dim=1, descending=True, stable=True)
        near = best.indices[:, :k]
        scores = torch.cat([scores, best.values[:, :k]], dim=1)
        found = torch.cat([found, keys[near]], dim=1)
        kept = torch.sort(scores, dim=1, descending=True, stable=True).indices[:, :k]
        scores = scores.gather(1, kept)
        found = found.gather(1, kept[:, :, None].expand(-1, -1, found.shape[2]))
    weights = (scores / tau).softmax(dim=1)
    return torch.einsum("qk,qkd->qd", weights, found)


def complete(x: Tensor, variance: float, generator: torch.Generator) -> Tensor:
    """Semantic completion (intra-modality): normalize(x + theta), theta ~ N(0, variance I), fresh at each call.

    Args:
        x: (B, D) rows; pseudo rows may have a norm below 1.
        variance: Per component; 0 only normalises.
        generator: Where the noise comes from.
    """
    if variance:
        noise = torch.randn(x.shape, generator=generator, device=generator.device)
        x = x + noise.to(x.device) * variance**0.5
    return F.normalize(x, dim=1)
