"""Late fusion: a logistic regression a modality, and the mean of their probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from cmcr.classify.network import Adapter, Batch
from cmcr.classify.table import Table


@dataclass(frozen=True)
class Logistic:
    """A logistic regression: weights (C, D) and bias (C,) over rows that were standardised by these."""

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor

    def probabilities(self, rows: Tensor) -> Tensor:
        """Return (N, C) of (N, D)."""
        return (((rows - self.mean) / self.scale) @ self.weight.T + self.bias).softmax(dim=1)


@dataclass(frozen=True)
class Late:
    """Logistic regressions whose probabilities are averaged over the modalities that a row has."""

    parts: tuple[Logistic, ...]

    def probabilities(self, table: Table) -> Tensor:
        """Return (N, C)."""
        batch = Batch.of(table)
        each = torch.stack([p.probabilities(x) for p, x in zip(self.parts, batch.vectors, strict=True)], dim=1)
        weights = batch.present.float()
        return (each * weights[:, :, None]).sum(dim=1) / weights.sum(dim=1, keepdim=True)


def fit_logistic(rows: Tensor, labels: Tensor, classes: int, penalty: float = 1.0) -> Logistic:
    """Minimise penalty / 2 * |W|^2 plus the sum of the cross-entropies, by L-BFGS in float64.

    Args:
        rows: (N, D); of none, all classes are equally probable.
        labels: (N,) class numbers.
        classes: C.
        penalty: Of the weights; the bias has none.
    """
    scaling = Adapter(rows.shape[1], 1)
    scaling.fit_scale(rows)
    x = ((rows - scaling.mean) / scaling.scale).double()
    weight = torch.zeros(classes, rows.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=200, tolerance_grad=1e-6, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss: Tensor = penalty / 2 * weight.square().sum()
        if len(x):
            loss = loss + cross_entropy(x @ weight.T + bias, labels, reduction="sum")
        loss.backward()
        return loss

    optimiser.step(closure)
    return Logistic(scaling.mean, scaling.scale, weight.detach().float(), bias.detach().float())


def fit_late(table: Table) -> Late:
    """Fit a logistic regression to each channel, on the rows that have it."""
    batch = Batch.of(table)
    return Late(
        tuple(
            fit_logistic(x[batch.present[:, m]], batch.labels[batch.present[:, m]], len(table.classes))
            for m, x in enumerate(batch.vectors)
        )
    )
