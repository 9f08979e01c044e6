"""MLA: alternating steps of one modality each through a shared head, whose gradient is multiplied by P."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from cmcr.classify.fusion import fuse, fusion_weights
from cmcr.classify.network import Batch, Towers, new_towers
from cmcr.classify.projection import Projection
from cmcr.classify.settings import ClassifySettings
from cmcr.classify.table import Table
from cmcr.classify.training import batches, set_rate, sgd


class Alternating:
    """The state of alternating training (MLA, arXiv 2311.10707): towers with one head, an optimiser a part, and P."""

    def __init__(self, towers: Towers, settings: ClassifySettings) -> None:
        self.towers, self.settings = towers, settings
        self.head = towers.head(0)
        self.projection = Projection(self.head.in_features, settings.alpha) if settings.project else None
        # No decay of the head: it would shrink what P protects.
        self.head_sgd = sgd(self.head.parameters(), settings, decay=False)
        self.adapter_sgd = [sgd(adapter.parameters(), settings) for adapter in towers.adapters]

    def step(self, m: int, batch: Batch, rate: float) -> None:
        """Train on modality ``m`` of a batch: its adapter, and the head; the other adapters rest.

        Rows that lack the modality take no part, and a batch without any that has it is no step.
        """
        rows = batch.present[:, m].nonzero()[:, 0]
        if not len(rows):
            return
        parts = (self.adapter_sgd[m], self.head_sgd)
        for each in parts:
            set_rate(each, rate)
            each.zero_grad()
        own = batch.take(rows)
        features = self.towers.feature(m, own)
        loss: Tensor = cross_entropy(self.head(features), own.labels)
        loss.backward()
        self._protect(features)
        for each in parts:
            each.step()

    def _protect(self, features: Tensor) -> None:
        """Take a step's features into P, and keep the head's gradient from what P has seen."""
        gradient = self.head.weight.grad
        if self.projection is not None and gradient is not None:
            self.projection.update(features.mean(dim=0))
            self.head.weight.grad = self.projection.apply(gradient)

    def train(self, data: Batch, order: Sequence[int]) -> None:
        """Train all epochs: within each batch a step of each modality, in this order."""
        for rate, over, batch in batches(data, self.settings):
            if self.projection is not None and self.settings.anneal_alpha:
                self.projection.alpha = annealed(self.settings.alpha, over)
            for m in order:
                self.step(m, batch, rate)


def annealed(alpha: float, over: float) -> float:
    """Return alpha when this share of an epoch is over: 0.1^over of it, from all to a tenth (the authors' code)."""
    return float(alpha * 0.1**over)


@dataclass(frozen=True)
class Mla:
    """Trained towers that fuse what each modality says; ``dynamic`` weighs it by entropy."""

    towers: Towers
    dynamic: bool

    @torch.inference_mode()
    def probabilities(self, table: Table) -> Tensor:
        """Return (N, C), from the modalities that each row has."""
        batch = Batch.of(table)
        return fuse(self.towers.logits(batch), batch.present, self.dynamic).softmax(dim=1)

    @torch.inference_mode()
    def weights(self, table: Table) -> Tensor:
        """Return (N, M), how much each modality counted for each row."""
        batch = Batch.of(table)
        return fusion_weights(self.towers.logits(batch), batch.present, self.dynamic)


def fit_mla(table: Table, settings: ClassifySettings) -> Mla:
    """Train MLA on the labelled rows of a table."""
    towers = new_towers(table, settings)
    order = range(len(table.channels))
    Alternating(towers, settings).train(Batch.of(table), order if settings.order == "given" else order[::-1])
    return Mla(towers.eval(), settings.dynamic)
