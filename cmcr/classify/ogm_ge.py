"""OGM-GE: joint training that slows the adapter of the modality that is ahead, and adds noise to its gradient."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from cmcr.classify.joint import Joint
from cmcr.classify.network import Batch, Towers, new_towers
from cmcr.classify.settings import ClassifySettings
from cmcr.classify.table import Table
from cmcr.classify.training import train_jointly

ALPHA = 0.3
"""How much a lead slows."""


def own_heads(towers: Towers, batch: Batch) -> Tensor:
    """Return the sum of what each channel's own head says, (N, C); one that a row lacks says nothing."""
    return (towers.logits(batch) * batch.present[:, :, None]).sum(dim=1)


def coefficients(logits: Tensor, batch: Batch, alpha: float = ALPHA) -> Tensor:
    """Return by how much each channel's gradient is multiplied (Peng et al., CVPR 2022, equations 8 to 10).

    rho_m is the channel's mean probability of the true class over that of the others (their mean, where there are
    more than two, which the paper does not say); the coefficient is 1 - tanh(alpha * rho_m) where rho_m > 1, else 1.

    Args:
        logits: (N, M, C).
        batch: The rows, of N.
        alpha: How much a lead slows.

    Returns:
        (M,)
    """
    true = logits.softmax(dim=2)[torch.arange(len(batch)), :, batch.labels]
    score = (true * batch.present).sum(dim=0) / batch.present.sum(dim=0).clamp(min=1)
    others = (score.sum() - score) / max(1, len(score) - 1)
    rho = score / others.clamp(min=1e-12)
    return torch.where((rho > 1) & (others > 0), 1 - torch.tanh(alpha * rho), torch.ones_like(rho))


def fit_ogm_ge(table: Table, settings: ClassifySettings) -> Joint:
    """Train with modulated gradients, and noise as large as they are (GE)."""
    towers = new_towers(table, settings, heads=len(table.channels))
    noise = torch.Generator().manual_seed(settings.seed)

    def modulate(batch: Batch) -> None:
        with torch.no_grad():
            slowed = coefficients(towers.logits(batch), batch)
        for adapter, share in zip(towers.adapters, slowed.tolist(), strict=True):
            for weight in adapter.parameters():
                if weight.grad is not None and share < 1:
                    drawn = torch.randn(weight.shape, generator=noise)
                    weight.grad = weight.grad * share + drawn * weight.grad.std()

    train_jointly(
        towers,
        Batch.of(table),
        settings,
        lambda batch: cross_entropy(own_heads(towers, batch), batch.labels),
        after=modulate,
    )
    return Joint(towers.eval(), own_heads)
