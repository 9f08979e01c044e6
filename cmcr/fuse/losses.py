"""The losses of CoMM (arXiv 2409.07402) and of what it is compared with: tensors in, scalar out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from cmcr.numbers.losses import info_nce


def nt_xent(u: Tensor, v: Tensor, tau: float = 0.1) -> Tensor:
    """Return NT-Xent over 2N views: of each view, the other of its row among all others of the batch.

    -mean log [ e^{<u_k,v_k>/tau} / ( sum_l e^{<u_k,v_l>/tau} + sum_{l!=k} e^{<u_k,u_l>/tau} ) ], over u and over v.

    >>> import torch
    >>> from cmcr.fuse.losses import nt_xent
    >>> round(nt_xent(torch.eye(2), torch.eye(2), tau=1.0).item(), 3)  # log(e + 2) - 1
    0.551

    Args:
        u: (N, D), of any length.
        v: (N, D); row k is another view of row k of ``u``.
        tau: Temperature.
    """
    z = normalize(torch.cat([u, v]), dim=1)
    n = len(u)
    logits = (z @ z.T / tau).masked_fill(torch.eye(2 * n, dtype=torch.bool, device=z.device), -torch.inf)
    other = (torch.arange(2 * n, device=z.device) + n) % (2 * n)
    return cross_entropy(logits, other)


def comm_loss(
    first: Sequence[Tensor | None],
    second: Sequence[Tensor | None],
    fused: tuple[Tensor, Tensor],
    present: Tensor,
    tau: float = 0.1,
    with_fused: bool = True,
) -> Tensor:
    """Return CoMM's loss: the mean of L_i over the modalities and *, which is all of them.

    L_i = ( NCE(z_i^1, z_*^2) + NCE(z_i^2, z_*^1) ) / 2

    Args:
        first: Of each modality, z_i^1 of those rows that have it, (n_i, D); None: no term.
        second: Likewise z_i^2.
        fused: z_*^1 and z_*^2, (N, D) each.
        present: (N, M) bool, which rows have which modality.
        tau: Temperature.
        with_fused: Whether L_* is among them.
    """
    terms = [nt_xent(*fused, tau)] if with_fused else []
    for m, (one, two) in enumerate(zip(first, second, strict=True)):
        if one is not None and two is not None:
            own = present[:, m]
            terms.append((nt_xent(one, fused[1][own], tau) + nt_xent(two, fused[0][own], tau)) / 2)
    return torch.stack(terms).mean()


def cross_loss(
    first: Sequence[Tensor | None],
    second: Sequence[Tensor | None],
    present: Tensor,
    tau: float = 0.1,
    with_self: bool = False,
) -> Tensor:
    """Return InfoNCE between each two modalities, over the rows that have both; with ``with_self`` also of each alone.

    Args:
        first: Of each modality, what one view of it became, (n_i, D), of those rows that have it; None: no term.
        second: Likewise of another view.
        present: (N, M) bool.
        tau: Temperature.
        with_self: Add NCE between the two views of each modality.
    """
    terms = []
    there = [m for m, each in enumerate(first) if each is not None]
    for a in there:
        for b in [m for m in there if m > a]:
            both = present[:, a] & present[:, b]
            if int(both.sum()) > 1:
                terms.append(
                    (_between(first, a, b, both, present, tau) + _between(second, a, b, both, present, tau)) / 2
                )
    if with_self:
        pairs = [(first[m], second[m]) for m in there]
        terms += [nt_xent(one, two, tau) for one, two in pairs if one is not None and two is not None]
    return torch.stack(terms).mean()


def _between(z: Sequence[Tensor | None], a: int, b: int, both: Tensor, present: Tensor, tau: float) -> Tensor:
    """Return InfoNCE between modalities ``a`` and ``b``, both ways: negatives are rows of the other modality."""
    u, v = (normalize(of[both[present[:, m]]], dim=1) for m in (a, b) if (of := z[m]) is not None)
    return info_nce(u, v, tau)
