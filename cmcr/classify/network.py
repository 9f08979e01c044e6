"""The networks of all methods that are trained by steps: a light adapter a modality, and one head or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from cmcr.classify.settings import ClassifySettings
from cmcr.classify.table import Table


class Adapter(nn.Module):
    """Unit vectors of one channel, standardised by training rows, through one hidden layer: (N, D) -> (N, width)."""

    mean: Tensor
    scale: Tensor

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(1))
        self.body = nn.Sequential(nn.Linear(dim, width), nn.GELU(), nn.Linear(width, width))

    def fit_scale(self, rows: Tensor) -> None:
        """Let the rows (N, D) have mean 0 and components of variance 1 on average; of no row nothing is learnt."""
        if len(rows):
            self.mean.copy_(rows.mean(dim=0))
            spread = (rows - self.mean).square().mean().sqrt()
            self.scale.fill_(float(spread.clamp(min=1e-6)))

    def forward(self, rows: Tensor) -> Tensor:
        """Return the features."""
        features: Tensor = self.body((rows - self.mean) / self.scale)
        return features


class Towers(nn.Module):
    """Adapters of M channels and the heads above them.

    Attributes:
        adapters: M.
        heads: One that all channels share, or one each.
    """

    def __init__(self, dims: Sequence[int], width: int, heads: int, classes: int, inputs: int = 1) -> None:
        """Draw the weights from torch's generator.

        Args:
            dims: Components of each channel's vectors.
            width: Components of the features.
            heads: How many.
            classes: C.
            inputs: How many channels' features a head reads side by side.
        """
        super().__init__()
        self.adapters = nn.ModuleList(Adapter(dim, width) for dim in dims)
        self.heads = nn.ModuleList(nn.Linear(inputs * width, classes) for _ in range(heads))

    def head(self, m: int) -> nn.Linear:
        """Return the head that reads channel ``m``."""
        found = self.heads[m if len(self.heads) > 1 else 0]
        assert isinstance(found, nn.Linear)  # noqa: S101  (what the list was made of)
        return found

    def feature(self, m: int, batch: Batch) -> Tensor:
        """Return the features of a channel, (N, width); zero where a row lacks it."""
        features: Tensor = self.adapters[m](batch.vectors[m])
        return features * batch.present[:, m, None]

    def features(self, batch: Batch) -> Tensor:
        """Return the features of all channels, (N, M, width)."""
        return torch.stack([self.feature(m, batch) for m in range(len(self.adapters))], dim=1)

    def logits(self, batch: Batch) -> Tensor:
        """Return what each channel alone says, (N, M, C); only where a row has it, it means something."""
        features = self.features(batch)
        each: list[Tensor] = [self.head(m)(features[:, m]) for m in range(len(self.adapters))]
        return torch.stack(each, dim=1)


@dataclass(frozen=True)
class Batch:
    """Rows as tensors: vectors of each channel, (N, M) what is there, labels, and the rows' numbers in the table."""

    vectors: tuple[Tensor, ...]
    present: Tensor
    labels: Tensor
    rows: Tensor

    @classmethod
    def of(cls, table: Table) -> Batch:
        """Return all rows of a table as one batch."""
        vectors, present, labels = (
            [torch.from_numpy(np.ascontiguousarray(each)) for each in arrays]
            for arrays in (table.vectors, [table.present], [table.labels])
        )
        return cls(tuple(vectors), present[0], labels[0], torch.arange(len(table)))

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: Tensor) -> Batch:
        """Return some of its rows."""
        vectors = tuple(each[rows] for each in self.vectors)
        return Batch(vectors, self.present[rows], self.labels[rows], self.rows[rows])


def new_towers(table: Table, settings: ClassifySettings, heads: int = 1, inputs: int = 1) -> Towers:
    """Return untrained towers for a table's channels and classes, standardised by its rows; the seed draws them."""
    dims = [channel.dim for channel in table.channels]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        towers = Towers(dims, settings.width, heads, len(table.classes), inputs)
    for m, adapter in enumerate(towers.adapters):
        assert isinstance(adapter, Adapter)  # noqa: S101  (what the list was made of)
        adapter.fit_scale(torch.from_numpy(table.vectors[m][table.present[:, m]]))
    return towers
