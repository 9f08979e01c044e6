"""The losses of C-MCR (arXiv 2305.14381): tensors in, scalar out."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def info_nce(x: Tensor, y: Tensor, tau: float | Tensor) -> Tensor:
    """Symmetric InfoNCE: row i of ``x`` and row i of ``y`` are a pair, all other rows are negatives.

    Args:
        x: (B, D) unit vectors.
        y: (B, D) unit vectors.
        tau: Temperature, above 0.

    Returns:
        Scalar: the mean of the cross entropies x -> y and y -> x.
    """
    logits = x @ y.T / tau
    target = torch.arange(len(x), device=x.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def inter_loss(
    overlap: tuple[Tensor, Tensor],
    pseudo: tuple[Tensor, Tensor] | None,
    tau_overlap: float,
    tau_pseudo: float,
    overlap_weight: float = 1.0,
    pseudo_weight: float = 1.0,
) -> Tensor:
    """Inter-MCR loss: L_ttc on the overlap pair plus L_avc on the pseudo pair.

    Args:
        overlap: Projected overlap rows of both spaces, (B, D) unit vectors each.
        pseudo: Projected pseudo rows of both spaces, (B, D) unit vectors each; None without memories.
        tau_overlap: Temperature of L_ttc (tau2 of the paper).
        tau_pseudo: Temperature of L_avc (tau3 of the paper).
        overlap_weight: Weight of L_ttc; 0 leaves it out.
        pseudo_weight: Weight of L_avc; 0 leaves it out.
    """
    loss = overlap[0].new_zeros(())
    if overlap_weight:
        loss = loss + overlap_weight * info_nce(*overlap, tau_overlap)
    if pseudo is not None and pseudo_weight:
        loss = loss + pseudo_weight * info_nce(*pseudo, tau_pseudo)
    return loss


def intra_loss(overlap: Tensor, pseudo: Tensor, squared: bool = False) -> Tensor:
    """Intra-MCR loss of one space: the pull of InfoNCE alone, half the mean distance of overlap and pseudo row.

    The push is left out because these pairs are pseudo pairs and because the push is what keeps modalities apart.

    Args:
        overlap: (B, D) projected overlap rows.
        pseudo: (B, D) projected pseudo rows of the same space.
        squared: Squared instead of plain Euclidean distance (the sources do not settle which).
    """
    squares = (overlap - pseudo).square().sum(dim=1)
    # The root has no gradient at 0: coinciding rows would give NaN, so they count as (almost) 0.
    distances = squares if squared else squares.clamp_min(1e-12).sqrt()
    return distances.mean() / 2
