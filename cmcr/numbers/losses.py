"""The losses of C-MCR (arXiv 2305.14381): tensors in, scalar out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from cmcr.devices import narrow_into, narrow_products, narrowed, padded, tile_rows
from cmcr.ranks import ALONE, Ranks

KEPT, NARROW_KEPT = 5 << 24, 15 << 23
"""Bytes of tiles kept from the first pass over the similarities for the second, in float32 and in bf16; the others are
computed again. So a step of C-MCR at the paper's size takes about a quarter of a naive one's memory."""
NARROW = 2
"""So many times as many rows and columns has a tile whose products are of bf16 matrices."""
_WINDOW = {torch.float32: 80.0, torch.float64: 690.0}
"""Sums of exponentials up to e^WINDOW neither overflow nor, down to e^-WINDOW, lose what float32 can show."""


def info_nce(x: Tensor, y: Tensor, tau: float | Tensor, ranks: Ranks = ALONE) -> Tensor:
    """Symmetric InfoNCE: row i of ``x`` and row i of ``y`` are a pair, all other rows are negatives.

    The (B, B) similarities are computed tile by tile, each tile once for both directions, and never held whole: memory
    beyond ``x`` and ``y`` is that of their gradients, of some tiles and of those ``KEPT``. The gradient is computed
    with the value, in a second pass, so that backward is a multiplication.

    Args:
        x: (B, D) float32 or float64 vectors, of norm 1 unless the caller wants otherwise.
        y: (B, D) likewise.
        tau: Temperature, above 0; a tensor gets a gradient too.
        ranks: The processes that hold the other rows of a joint batch. All have equally many; the value is the joint
            batch's, and the gradient of a rank's rows is that of the joint value.

    Returns:
        Scalar: the mean of the cross entropies x -> y and y -> x.
    """
    tau = torch.as_tensor(tau, dtype=x.dtype, device=x.device)
    value: Tensor = _InfoNCE.apply(x, y, tau, ranks)
    return value


def soft_info_nce(x: Tensor, y: Tensor, teacher: Tensor, tau: float) -> Tensor:
    """Cross entropy of the similarities of ``x`` and ``y`` to given ones, over rows and over columns.

    Args:
        x: (A, D) unit vectors.
        y: (B, D) unit vectors.
        teacher: (A, B) similarities to learn; they get no gradient.
        tau: Temperature of both soft maxima.

    Returns:
        Scalar: the mean of the cross entropies of the A rows and of the B columns.
    """
    value: Tensor = _SoftInfoNCE.apply(x, y, teacher.detach(), tau)
    return value


class _SoftInfoNCE(torch.autograd.Function):
    """One exponential of each similarity gives both soft maxima; autograd's own way takes four times as many passes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, teacher: Tensor, tau: float) -> Tensor:
        logits, target = (x / tau) @ y.T, teacher / tau
        wanted = any(ctx.needs_input_grad[:2])
        most = float(torch.stack([*logits.aminmax(), *target.aminmax()]).abs().max()) + math.log(max(logits.shape))
        find = _soft_by_sums if most < _WINDOW.get(x.dtype, 0.0) else _soft_by_maxima
        value, by_logits = find(logits, target, wanted)
        if wanted:
            ctx.save_for_backward((by_logits @ y).div_(tau), (by_logits.T @ x).div_(tau))
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        dx, dy = ctx.saved_tensors  # type: ignore[attr-defined]
        return dx * grad, dy * grad, None, None


def _soft_by_sums(logits: Tensor, target: Tensor, wanted: bool) -> tuple[Tensor, Tensor]:
    """Return the value and its gradient by the (A, B) logits, where no sum of exponentials overflows.

    With e and f the exponentials of logits l and target, r and c the row and column sums of e, the value is the mean
    log r and log c less the sum of w l, w = f (1 / A rows of f + 1 / B columns of f), halved; its gradient is
    e (1 / A r + 1 / B c) - w, halved.
    """
    w, room = target.exp_(), torch.empty_like(target)
    w *= _reciprocals(w.sum(dim=1), w.sum(dim=0), room)
    value = -torch.dot(w.flatten(), logits.flatten())
    e = logits.exp_()
    r, c = e.sum(dim=1), e.sum(dim=0)
    value = (value + r.log().mean() + c.log().mean()) / 2
    return value, e.mul_(_reciprocals(r, c, room)).sub_(w).div_(2) if wanted else e


def _reciprocals(rows: Tensor, columns: Tensor, out: Tensor) -> Tensor:
    return torch.add((rows * len(rows)).reciprocal()[:, None], (columns * len(columns)).reciprocal(), out=out)


def _soft_by_maxima(logits: Tensor, target: Tensor, wanted: bool) -> tuple[Tensor, Tensor]:
    """Return what ``_soft_by_sums`` does, for logits of any size."""
    value, by_logits = logits.new_zeros(()), torch.zeros_like(logits)
    for dim in (0, 1):
        share, weights = logits.shape[1 - dim], target.softmax(dim)
        log_soft = logits.log_softmax(dim)
        value -= (weights * log_soft).sum() / share / 2
        if wanted:
            by_logits += (log_soft.exp() - weights) / share / 2
    return value, by_logits


class _InfoNCE(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, tau: Tensor, ranks: Ranks) -> Tensor:
        wanted = any(ctx.needs_input_grad)
        value, dx, dy = _value_and_gradients(x, y, float(tau), ranks, wanted)
        if wanted:
            ctx.save_for_backward(x, dx, dy, tau)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        x, dx, dy, tau = ctx.saved_tensors  # type: ignore[attr-defined]
        # The value depends on similarity / tau alone, so tau's gradient follows from that of the similarities.
        dtau = -(x * dx).sum() / tau * grad if ctx.needs_input_grad[2] else None  # type: ignore[attr-defined]
        return dx * grad, dy * grad, dtau, None


def _value_and_gradients(
    x: Tensor, y: Tensor, tau: float, ranks: Ranks, gradients: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the joint value, and its gradients by this rank's rows (empty unless asked for).

    With logits l = x y^T / tau and one shift m for all of them, e = exp(l - m) gives both soft maxima: its row sums r
    and column sums c. The gradient by the logits is (e/r + e/c - 2 I) / 2B. Pairs (the diagonal) are kept apart from
    their negatives, for when a pair has nearly all the weight, 1 - e_ii/r_i is lost in rounding but (r_i - e_ii)/r_i
    is not.
    """
    columns = ranks.gather(y.contiguous())
    scaled, window = x / tau, _WINDOW[x.dtype]
    first = ranks.rank * len(x)
    # No logit is above the product of the greatest norms, so no sum is above e^window, whatever the vectors.
    greatest = torch.stack([scaled.norm(dim=1).max(), columns.norm(dim=1).max()])
    shift = max(0.0, float(ranks.reduce(greatest, "max").prod()) + math.log(len(columns)) - window)
    tiles = _Tiles(scaled, columns, shift, first)
    by_row, by_column = x.new_zeros(len(x)), x.new_zeros(len(columns))
    for i, j, tile in tiles.kept():
        by_row[i] += tile.sum(dim=1)
        by_column[j] += tile.sum(dim=0)
    by_column = ranks.reduce(by_column)
    logit = (scaled * y).sum(dim=1) - shift
    pair = logit.exp()
    own = by_column[first : first + len(x)]
    least = float(ranks.reduce(-torch.minimum(by_row + pair, own + pair).min(), "max").neg())
    if x.dtype == torch.float32 and least < math.exp(10 - window):
        # Small temperatures spread the logits over more than float32's exponents; float64 has eight times as many.
        value, dx, dy = _value_and_gradients(x.double(), y.double(), tau, ranks, gradients)
        return value.float(), dx.float(), dy.float()
    value = ranks.reduce(_cross_entropy(by_row, pair, logit).sum() + _cross_entropy(own, pair, logit).sum())
    value = value / (2 * len(columns))
    if not gradients:
        return value, x.new_empty(0), x.new_empty(0)
    rows = (by_row + pair).reciprocal()[:, None]
    totals = ranks.gather((own + pair)[:, None]).reciprocal()[:, 0]
    sums = _narrow_sums if tiles.narrow else _sums
    dx, dy = sums(tiles, rows, totals, x, columns)
    missing = (by_row * rows[:, 0] + own / (own + pair))[:, None]
    share = 1 / (2 * len(columns) * tau)
    dx.addcmul_(missing, y, value=-1).mul_(share)
    dy = ranks.reduce(dy)[first : first + len(x)].addcmul_(missing, x, value=-1).mul_(share)
    return value, dx, dy


def _sums(tiles: _Tiles, rows: Tensor, totals: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return w y and w^T x for w = e (rows + totals)."""
    dx, dy, weights = torch.zeros_like(x), torch.zeros_like(y), tiles.buffer()
    for i, j, tile in tiles.again():
        tile *= torch.add(rows[i], totals[j], out=weights[: tile.shape[0], : tile.shape[1]])
        dx[i].addmm_(tile, y[j])
        dy[j].addmm_(tile.T, x[i])
    return dx, dy


def _narrow_sums(tiles: _Tiles, rows: Tensor, totals: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return what ``_sums`` does, by products of bf16 matrices; a tile's are rounded to bf16, their sums are float32.

    The second is computed transposed: oneDNN takes twice as long where the first matrix of a product is.
    """
    xt, ys = narrowed(x).T.contiguous(), narrowed(y)
    dx, dyt, weights = torch.zeros_like(x), y.new_zeros(y.shape[::-1]), tiles.buffer()
    room = weights.new_empty([padded(side) for side in weights.shape], dtype=torch.bfloat16)
    for i, j, tile in tiles.again():
        m, n = tile.shape
        weighted = torch.add(rows[i], totals[j], out=weights[:m, :n]).mul_(tile)
        full = narrow_into(room[: padded(m), : padded(n)], weighted)
        dx[i] += torch.mm(full, ys[j.start : j.start + full.shape[1]])[:m]
        dyt[:, j] += torch.mm(xt[:, i.start : i.start + full.shape[0]], full)[:, :n]
    return dx, dyt.T.contiguous()


def _cross_entropy(negatives: Tensor, pair: Tensor, logit: Tensor) -> Tensor:
    """Return log((negatives + pair) / pair) with pair = exp(logit), exact for few negatives and for a small pair."""
    return torch.where(negatives < pair, (negatives / pair).log1p(), (negatives + pair).log() - logit)


class _Tiles:
    """exp(x y^T - shift) without its pairs, tile by tile, twice; some are kept for the second."""

    def __init__(self, x: Tensor, y: Tensor, shift: float, first: int) -> None:
        self.x, self.y, self.shift, self.first = x, y, shift, first
        self.narrow = x.dtype == torch.float32 and narrow_products(x.device.type)
        self.size = size = tile_rows(x.device.type) * (NARROW if self.narrow else 1)
        self.cuts = [
            (slice(i, min(i + size, len(x))), slice(j, min(j + size, len(y))))
            for i in range(0, len(x), size)
            for j in range(0, len(y), size)
        ]
        self.store: list[Tensor] = []
        self.fitting = NARROW_KEPT // (2 * size**2) if self.narrow else KEPT // (size**2 * x.element_size())

    def buffer(self) -> Tensor:
        """Return room for a tile."""
        return self.x.new_empty(min(self.size, len(self.x)), min(self.size, len(self.y)))

    def kept(self) -> Iterator[tuple[slice, slice, Tensor]]:
        """Yield each tile with its rows and columns, for reading."""
        buffer = self.buffer()
        for rows, columns in self.cuts:
            keep = len(self.store) < self.fitting
            tile = self._compute(rows, columns, self.buffer() if keep and not self.narrow else buffer)
            if keep:
                self.store.append(tile.bfloat16() if self.narrow else tile)
            yield rows, columns, tile

    def again(self) -> Iterator[tuple[slice, slice, Tensor]]:
        """Yield the tiles once more; they are the caller's to overwrite. Those kept are bf16 where ``narrow``."""
        buffer, kept = self.buffer(), iter(self.store)
        for rows, columns in self.cuts:
            tile = next(kept, None)
            yield rows, columns, self._compute(rows, columns, buffer) if tile is None else tile

    def _compute(self, rows: slice, columns: slice, out: Tensor) -> Tensor:
        x, y = self.x[rows], self.y[columns]
        tile = torch.mm(x, y.T, out=out[: len(x), : len(y)]).sub_(self.shift).exp_()
        offset = self.first + rows.start - columns.start
        if -len(x) < offset < len(y):
            tile.diagonal(offset).zero_()
        return tile


def inter_loss(
    overlap: tuple[Tensor, Tensor],
    pseudo: tuple[Tensor, Tensor] | None,
    tau_overlap: float,
    tau_pseudo: float,
    overlap_weight: float = 1.0,
    pseudo_weight: float = 1.0,
    ranks: Ranks = ALONE,
) -> Tensor:
    """Inter-MCR loss: L_ttc on the overlap pair plus L_avc on the pseudo pair.

    Args:
        overlap: Projected overlap rows of both spaces, (B, D) unit vectors each.
        pseudo: Projected pseudo rows of both spaces, (B, D) unit vectors each; None without memories.
        tau_overlap: Temperature of L_ttc (tau2 of the paper).
        tau_pseudo: Temperature of L_avc (tau3 of the paper).
        overlap_weight: Weight of L_ttc; 0 leaves it out.
        pseudo_weight: Weight of L_avc; 0 leaves it out.
        ranks: The processes that hold the joint batch's other rows.
    """
    loss = overlap[0].new_zeros(())
    if overlap_weight:
        loss = loss + overlap_weight * info_nce(*overlap, tau_overlap, ranks)
    if pseudo is not None and pseudo_weight:
        loss = loss + pseudo_weight * info_nce(*pseudo, tau_pseudo, ranks)
    return loss


class _SquaredDistances(torch.autograd.Function):
    """Of rows of ``x`` to those of ``y``; autograd would take several passes for its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        difference = x - y
        ctx.save_for_backward(difference)
        return difference.square().sum(dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        by_x = ctx.saved_tensors[0] * (2 * grad)[:, None]
        return by_x, -by_x


def intra_loss(overlap: Tensor, pseudo: Tensor, squared: bool = False, ranks: Ranks = ALONE) -> Tensor:
    """Intra-MCR loss of one space: the pull of InfoNCE alone, half the mean distance of overlap and pseudo row.

    The push is left out because these pairs are pseudo pairs and because the push is what keeps modalities apart.

    Args:
        overlap: (B, D) projected overlap rows.
        pseudo: (B, D) projected pseudo rows of the same space.
        squared: Squared instead of plain Euclidean distance (the sources do not settle which).
        ranks: The processes that hold the joint batch's other rows; the mean is over all of them.
    """
    squares: Tensor = _SquaredDistances.apply(overlap, pseudo)
    # The root has no gradient at 0: coinciding rows would give NaN, so they count as (almost) 0.
    distances = squares if squared else squares.clamp_min(1e-12).sqrt()
    own = distances.sum() / (2 * len(overlap) * ranks.size)
    # The joint value, with the gradient of this rank's part of it.
    return own + (ranks.reduce(own.detach()) - own.detach())
