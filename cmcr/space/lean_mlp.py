"""The training pass of the MLP projector in little memory: Linear-BatchNorm-ReLU-Linear-BatchNorm, then L2-normalise.

PyTorch keeps the result of each layer for the backward pass. Here only the inputs of the two BatchNorms are kept; all
else is computed again, block by block of rows. Same numbers up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

ROWS = 4096
"""Rows of a block: 8 to 16 MiB of activations. Fewer fit a cache better and multiply worse: of 1,024, a projector takes
an eighth longer in bf16, a twentieth in float32."""


def fits(body: nn.Module, x: Tensor) -> bool:
    """Tell whether ``lean_mlp`` stands for ``body`` on ``x``: in training, on a processor, the layers as above.

    On an accelerator the layers' own kernels are better; a synchronised BatchNorm needs its own pass.
    """
    wanted = (nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear, nn.BatchNorm1d)
    return (
        body.training
        and x.device.type == "cpu"
        and isinstance(body, nn.Sequential)
        and tuple(type(layer) for layer in body) == wanted
        and all(layer.training and layer.momentum is not None for layer in body if isinstance(layer, nn.BatchNorm1d))
    )


def lean_mlp(body: nn.Sequential, x: Tensor) -> Tensor:
    """Return the rows that ``body`` maps (N, D_in) rows to, L2-normalised, (N, D_out); updates running statistics.

    Raises:
        ValueError: a single row, which has no variance.
    """
    if len(x) < 2:
        raise ValueError(f"{len(x)} row: BatchNorm needs at least 2 to train")
    first, norm_1, _, second, norm_2 = body
    out: Tensor
    out, *statistics = _LeanMLP.apply(
        x, first.weight, first.bias, norm_1.weight, norm_1.bias, second.weight, second.bias, norm_2.weight, norm_2.bias,
        norm_1.eps, norm_2.eps,
    )  # fmt: skip
    for norm, mean, variance in ((norm_1, *statistics[:2]), (norm_2, *statistics[2:])):
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * (len(x) / (len(x) - 1)), norm.momentum)
        norm.num_batches_tracked += 1
    return out


class _Norm(NamedTuple):
    """A BatchNorm over a batch: (h - mean) * inverse * weight + bias, with the inverse of the deviation."""

    h: Tensor
    mean: Tensor
    inverse: Tensor
    weight: Tensor
    bias: Tensor

    def forward(self, rows: slice, out: Tensor) -> Tensor:
        scale = self.inverse * self.weight
        return torch.addcmul(self.bias - self.mean * scale, self.h[rows], scale, out=out)

    def by_weight(self, grad: Tensor, rows: slice, scratch: Tensor) -> Tensor:
        """Return what some rows add to the gradient by ``weight``."""
        return torch.sub(self.h[rows], self.mean, out=scratch).mul_(grad).sum(dim=0).mul_(self.inverse)

    def backward_(self, grad: Tensor, by_weight: Tensor, by_bias: Tensor, rows: slice) -> Tensor:
        """Turn the gradient by some rows of the result, in place, into that by ``h``."""
        scale = self.inverse * self.weight
        slope = scale * self.inverse * by_weight / -len(self.h)
        return grad.mul_(scale).addcmul_(self.h[rows], slope).sub_(self.mean * slope + scale * by_bias / len(self.h))


class _Scratch:
    """Room for blocks of rows, made once: new memory for each block would cost more than what is computed in it."""

    def __init__(self, like: Tensor, width: int, count: int) -> None:
        self.rooms = like.new_empty(count, ROWS * width)

    def __call__(self, number: int, rows: slice, width: int) -> Tensor:
        count = rows.stop - rows.start
        return self.rooms[number, : count * width].view(count, width)


def _blocks(rows: int) -> Iterator[slice]:
    return (slice(start, min(start + ROWS, rows)) for start in range(0, rows, ROWS))


def _norm(h: Tensor, weight: Tensor, bias: Tensor, eps: float, scratch: _Scratch) -> tuple[_Norm, Tensor]:
    """Return the BatchNorm of ``h`` and the variance (divided by N) of its columns."""
    mean, squares = h.mean(dim=0), torch.zeros_like(h[0])
    for rows in _blocks(len(h)):
        squares += torch.sub(h[rows], mean, out=scratch(0, rows, h.shape[1])).square_().sum(dim=0)
    variance = squares / len(h)
    return _Norm(h, mean, (variance + eps).rsqrt(), weight, bias), variance


class _LeanMLP(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, w1: Tensor, b1: Tensor, g1: Tensor, c1: Tensor, w2: Tensor, b2: Tensor, g2: Tensor,
        c2: Tensor, eps_1: float, eps_2: float,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        scratch = _Scratch(x, max(len(w1), len(w2)), 1)
        h1, h2 = x.new_empty(len(x), len(w1)), x.new_empty(len(x), len(w2))
        for rows in _blocks(len(x)):
            torch.addmm(b1, x[rows], w1.T, out=h1[rows])
        norm_1, variance_1 = _norm(h1, g1, c1, eps_1, scratch)
        for rows in _blocks(len(x)):
            torch.addmm(b2, norm_1.forward(rows, scratch(0, rows, len(w1))).relu_(), w2.T, out=h2[rows])
        norm_2, variance_2 = _norm(h2, g2, c2, eps_2, scratch)
        out = torch.empty_like(h2)
        for rows in _blocks(len(x)):
            z = norm_2.forward(rows, out[rows])
            z /= _lengths(z)
        ctx.save_for_backward(x, w1, w2, *norm_1, *norm_2)
        statistics = norm_1.mean, variance_1, norm_2.mean, variance_2
        ctx.mark_non_differentiable(*statistics)
        return out, *statistics

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, w1, w2, *norms = ctx.saved_tensors
        norm_1, norm_2 = _Norm(*norms[:5]), _Norm(*norms[5:])
        scratch, (wide, narrow) = _Scratch(x, max(w2.shape), 2), (len(w1), len(w2))
        dz, du = torch.empty_like(grad), torch.empty_like(norm_1.h)
        dw1, dg1, dc1, dw2, dg2, dc2 = map(torch.zeros_like, (w1, *norms[3:5], w2, *norms[8:]))
        for rows in _blocks(len(x)):
            z = norm_2.forward(rows, scratch(0, rows, narrow))
            lengths = _lengths(z)
            z /= lengths
            along = torch.mul(grad[rows], z, out=scratch(1, rows, narrow)).sum(dim=1, keepdim=True)
            torch.addcmul(grad[rows], z, along, value=-1, out=dz[rows]).div_(lengths)
            dc2 += dz[rows].sum(dim=0)
            dg2 += norm_2.by_weight(dz[rows], rows, scratch(1, rows, narrow))
        for rows in _blocks(len(x)):
            dh2 = norm_2.backward_(dz[rows], dg2, dc2, rows)
            hidden = norm_1.forward(rows, scratch(0, rows, wide)).relu_()
            dw2.addmm_(dh2.T, hidden)
            torch.mm(dh2, w2, out=du[rows]).mul_(hidden.sign_())
            dc1 += du[rows].sum(dim=0)
            dg1 += norm_1.by_weight(du[rows], rows, scratch(1, rows, wide))
        for rows in _blocks(len(x)):
            dw1.addmm_(norm_1.backward_(du[rows], dg1, dc1, rows).T, x[rows])
        dx = du @ w1 if ctx.needs_input_grad[0] else None
        # A bias before a BatchNorm moves its mean and nothing else.
        return dx, dw1, torch.zeros_like(dc1), dg1, dc1, dw2, torch.zeros_like(dc2), dg2, dc2, None, None


def _lengths(z: Tensor) -> Tensor:
    lengths: Tensor = z.norm(dim=1, keepdim=True)
    return lengths.clamp_min_(1e-12)
