"""One prediction of several: modalities weighed row by row, by how sure each is of the row."""

from __future__ import annotations

import torch


def entropies(logits: torch.Tensor) -> torch.Tensor:
    """Return the entropy of the softmax over the last axis, in nats: (..., C) -> (...)."""
    log_p = logits.log_softmax(dim=-1)
    return -(log_p.exp() * log_p).sum(dim=-1)


def fusion_weights(logits: torch.Tensor, present: torch.Tensor, dynamic: bool = True) -> torch.Tensor:
    """Return how much each modality counts for each row.

    MLA (arXiv 2311.10707): lambda_m = exp(max_v e_v - e_m) / sum_v exp(max_u e_u - e_v), e the entropy of a
    modality's prediction of this row; v runs over the modalities that the row has.

    Args:
        logits: (N, M, C).
        present: (N, M) bool, one or more True a row.
        dynamic: Else the modalities that are there count equally.

    Returns:
        (N, M); rows sum to 1, and what is missing counts 0.
    """
    score = -entropies(logits) if dynamic else torch.zeros(logits.shape[:2])
    return score.masked_fill(~present, -torch.inf).softmax(dim=1)


def fuse(logits: torch.Tensor, present: torch.Tensor, dynamic: bool = True) -> torch.Tensor:
    """Return the fused logits, (N, C): the weighted sum over modalities of (N, M, C)."""
    weights = fusion_weights(logits, present, dynamic)
    return (weights[:, :, None] * logits.masked_fill(~present[:, :, None], 0)).sum(dim=1)
