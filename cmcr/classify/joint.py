"""Methods trained jointly, beside which MLA is set: concatenation, sum, and one modality alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from cmcr.classify.network import Batch, Towers, new_towers
from cmcr.classify.settings import ClassifySettings
from cmcr.classify.table import Table
from cmcr.classify.training import train_jointly


@dataclass(frozen=True)
class Joint:
    """Trained towers, and how their features become one prediction: a batch to (N, C) logits."""

    towers: Towers
    logits: Callable[[Towers, Batch], Tensor]

    @torch.inference_mode()
    def probabilities(self, table: Table) -> Tensor:
        """Return (N, C); a missing modality's features are zero."""
        return self.logits(self.towers, Batch.of(table)).softmax(dim=1)


@dataclass(frozen=True)
class Alone:
    """A classifier of one channel; a row that lacks it gets the shares of the classes in training."""

    channel: int
    inner: Joint
    prior: Tensor

    def probabilities(self, table: Table) -> Tensor:
        """Return (N, C)."""
        return torch.where(
            torch.from_numpy(table.present[:, self.channel, None]),
            self.inner.probabilities(only(table, self.channel)),
            self.prior,
        )


def only(table: Table, channel: int) -> Table:
    """Return a table of one channel; rows may lack it."""
    one = slice(channel, channel + 1)
    return replace(table, channels=table.channels[one], vectors=table.vectors[one], present=table.present[:, one])


def concatenated(towers: Towers, batch: Batch) -> Tensor:
    """Return the logits of one head over all features side by side, (N, C)."""
    logits: Tensor = towers.head(0)(towers.features(batch).flatten(1))
    return logits


def summed(towers: Towers, batch: Batch) -> Tensor:
    """Return the logits of one head over the sum of the features, (N, C): MLA's network, used jointly."""
    logits: Tensor = towers.head(0)(towers.features(batch).sum(dim=1))
    return logits


def fit_concatenation(table: Table, settings: ClassifySettings) -> Joint:
    """Train on features side by side."""
    return _fit(table, settings, new_towers(table, settings, inputs=len(table.channels)), concatenated)


def fit_sum(table: Table, settings: ClassifySettings) -> Joint:
    """Train on the sum of the features."""
    return _fit(table, settings, new_towers(table, settings), summed)


def fit_alone(table: Table, settings: ClassifySettings, channel: int) -> Alone:
    """Train on one channel, with the rows that have it."""
    own = only(table.rows(table.present[:, channel]), channel)
    counts = np.bincount(table.labels, minlength=len(table.classes))
    prior = torch.from_numpy(counts / counts.sum()).float()
    return Alone(channel, fit_sum(own, settings), prior)


def _fit(table: Table, settings: ClassifySettings, towers: Towers, logits: Callable[[Towers, Batch], Tensor]) -> Joint:
    train_jointly(towers, Batch.of(table), settings, lambda batch: cross_entropy(logits(towers, batch), batch.labels))
    return Joint(towers.eval(), logits)
