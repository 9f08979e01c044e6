"""QMF: fusion by how confident each modality is, with confidence trained to rank rows as their losses do."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from cmcr.classify.joint import Joint
from cmcr.classify.network import Batch, Towers, new_towers
from cmcr.classify.settings import ClassifySettings
from cmcr.classify.table import Table
from cmcr.classify.training import train_jointly

LARGEST = 5.0
"""Norm of a gradient, at most: a confident row's logits weigh themselves, and without it the loss may run away."""


def confidences(logits: Tensor) -> Tensor:
    """Return a tenth of the log-sum-exp of the logits (minus the free energy): (..., C) -> (...)."""
    return logits.logsumexp(dim=-1) / 10


def quality_fused(towers: Towers, batch: Batch) -> Tensor:
    """Return the logits of all channels, each weighed by its confidence in the row, (N, C)."""
    return _fused(towers.logits(batch), batch)


def _fused(logits: Tensor, batch: Batch) -> Tensor:
    weights = confidences(logits).detach() * batch.present
    return (logits * weights[:, :, None]).sum(dim=1)


class Losses:
    """The sum of the losses that each row has had in each channel, (N, M)."""

    def __init__(self, rows: int, channels: int) -> None:
        self.total = torch.zeros(rows, channels)

    def add(self, batch: Batch, losses: Tensor) -> None:
        """Add a batch's losses, (n, M)."""
        self.total[batch.rows] += losses.detach()

    def ranking(self, batch: Batch, confidence: Tensor) -> Tensor:
        """Return the ranking loss of each channel, summed: a row of smaller loss should have more confidence.

        Each row is compared with the next of the batch: max(0, s (c_i - c_j) + |l_i - l_j|), s the sign of l_i - l_j,
        l scaled to 0..1 over all rows.
        """
        low, high = self.total.amin(dim=0), self.total.amax(dim=0)
        scaled = (self.total[batch.rows] - low) / (high - low).clamp(min=1e-12)
        apart = scaled - scaled.roll(-1, dims=0)
        lead = confidence - confidence.roll(-1, dims=0)
        both = batch.present & batch.present.roll(-1, dims=0)
        return ((apart.sign() * lead + apart.abs()).relu() * both).mean(dim=0).sum()


def fit_qmf(table: Table, settings: ClassifySettings) -> Joint:
    """Train on each channel's loss, the fused one and the ranking of confidences (Zhang et al., ICML 2023)."""
    towers = new_towers(table, settings, heads=len(table.channels))
    data = Batch.of(table)
    seen = Losses(len(table), len(table.channels))

    def loss(batch: Batch) -> Tensor:
        logits = towers.logits(batch)
        each = [cross_entropy(logits[:, m], batch.labels, reduction="none") for m in range(logits.shape[1])]
        losses = torch.stack(each, dim=1) * batch.present
        seen.add(batch, losses)
        alone = (losses.sum(dim=0) / batch.present.sum(dim=0).clamp(min=1)).sum()
        return alone + cross_entropy(_fused(logits, batch), batch.labels) + seen.ranking(batch, confidences(logits))

    def clip(_: Batch) -> None:
        torch.nn.utils.clip_grad_norm_(towers.parameters(), LARGEST)

    train_jointly(towers, data, settings, loss, after=clip)
    return Joint(towers.eval(), quality_fused)
