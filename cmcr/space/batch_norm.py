"""BatchNorm over the joint batch of several ranks; unlike ``torch.nn.SyncBatchNorm`` it works on the CPU too."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cmcr.ranks import Ranks


class JointBatchNorm(nn.BatchNorm1d):
    """A ``BatchNorm1d`` whose statistics in training are those of the rows of all ranks together.

    It shares weights and statistics with the layer it is made from. Every rank must pass equally many rows.
    """

    def __init__(self, layer: nn.BatchNorm1d, ranks: Ranks) -> None:
        super().__init__(layer.num_features, layer.eps, layer.momentum)
        self.weight, self.bias, self.ranks = layer.weight, layer.bias, ranks
        self.running_mean, self.running_var = layer.running_mean, layer.running_var
        self.num_batches_tracked = layer.num_batches_tracked

    def forward(self, x: Tensor) -> Tensor:
        """Normalise this rank's (n, D) rows."""
        if not self.training:
            return super().forward(x)
        count = len(x) * self.ranks.size
        mean = _joint_sum(x.sum(dim=0), self.ranks) / count
        centered = x - mean
        variance = _joint_sum(centered.square().sum(dim=0), self.ranks) / count
        with torch.no_grad():
            assert self.momentum is not None and self.running_mean is not None and self.running_var is not None  # noqa: S101  (for mypy)
            assert self.num_batches_tracked is not None  # noqa: S101
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
            self.num_batches_tracked += 1
        return centered * ((variance + self.eps).rsqrt() * self.weight) + self.bias


def join_batch_norms(module: nn.Module, ranks: Ranks) -> None:
    """Replace every ``BatchNorm1d`` in ``module`` by its joint twin; alone there is nothing to join."""
    for name, child in module.named_children():
        if ranks.size > 1 and type(child) is nn.BatchNorm1d:
            setattr(module, name, JointBatchNorm(child, ranks))
        else:
            join_batch_norms(child, ranks)


class _JointSum(torch.autograd.Function):
    """The sum over ranks. Each rank's loss is the joint one, so what reaches the sum's gradient is summed as well."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        return ranks.reduce(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.ranks.reduce(grad), None


def _joint_sum(x: Tensor, ranks: Ranks) -> Tensor:
    total: Tensor = _JointSum.apply(x, ranks)
    return total
