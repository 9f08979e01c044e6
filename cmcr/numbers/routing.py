"""What overlap rows tell of a row: how likely each describes it, and along which directions that varies."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from cmcr.numbers.rows import spread

BLOCK = 1024
"""Rows whose likelihoods are held at a time."""
SAMPLE = 512
"""Overlap rows whose nearest others are looked for."""


def likelihoods(x: Tensor, keys: Tensor, tau: float) -> Iterator[Tensor]:
    """Yield blocks of p(t|x), the chance that overlap row t describes x: softmax over t of <x, t> / tau.

    Args:
        x: (N, D) unit rows.
        keys: (M, D) unit overlap rows in the same space.
        tau: Temperature.
    """
    for block in x.split(BLOCK):
        yield (block @ keys.T / tau).softmax(dim=1)


def rarity(x: Tensor, keys: Tensor, tau: float) -> Tensor:
    """Return (M,) m(t)^-1/2, with m(t) the mean of p(t|x) over rows x: what is likely of every row tells little.

    The sum over t of p(t|a) p(t|b) / sqrt(m_a(t) m_b(t)) is how much likelier it is that rows a and b of two memories
    are described by the same overlap row than that two rows drawn at random are.
    """
    mean = torch.zeros(len(keys), device=x.device)
    for block in likelihoods(x, keys, tau):
        mean += block.sum(dim=0) / len(x)
    return (mean + 1e-3 / len(keys)).rsqrt()


def directions(rows: tuple[Tensor, Tensor], count: int) -> Tensor:
    """Return the (M, K) orthonormal directions along which long rows of two kinds vary most, each kind as much.

    Args:
        rows: (N_a, M) and (N_b, M) rows; N_a + N_b is far below M, so their products are decomposed and not their
            covariance.
        count: K at most; fewer where the rows span fewer.
    """
    both = torch.cat([each / max(1, len(each)) ** 0.5 for each in rows])
    parts = torch.linalg.eigh((both @ both.T).double().cpu())
    values, vectors = parts.eigenvalues.flip(0), parts.eigenvectors.flip(1)
    kept = min(count, int((values > 1e-7 * values[0].clamp_min(1e-30)).sum()))
    scaled = vectors[:, :kept] * values[:kept].rsqrt()
    found: Tensor = both.T @ scaled.float().to(both.device)
    return found


def turns(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return the (K, D_a) and (K, D_b) maps that turn two spaces onto each other, K the smaller of their components.

    The cosine of a row through the first with a row through the second is, where D_a = D_b, that of the two after the
    orthogonal map that lays the rows of ``b`` nearest to those of ``a`` (Procrustes).

    Args:
        a: (N, D_a) rows.
        b: (N, D_b) rows of the same items.
    """
    left, _, right = torch.linalg.svd((a.T @ b).double().cpu(), full_matrices=False)
    return left.T.float().contiguous(), right.float().contiguous()


def likeness(memory: Tensor, overlap: Tensor) -> float:
    """Return how much a memory's rows are of one kind with the overlap's, in [0, 1]: 1 for rows of the same law.

    The mean cosine of a memory row with the nearest of half of the overlap, over that of a row of the other half, or
    the reverse, whichever is smaller: rows that lie nearer to the overlap than it does to itself are blurred towards
    it, and of another law as well.

    Args:
        memory: (N, D) unit rows.
        overlap: (M, D) unit rows of the same space, M of 2 or more.
    """
    half, others = overlap[::2], overlap[1::2]
    own, theirs = (float((rows @ half.T).amax(dim=1).mean()) for rows in (spread_rows(others, SAMPLE), memory))
    return min(own, theirs) / max(own, theirs) if min(own, theirs) > 0 else 0.0


def likeness_error(memory: Tensor, overlap: Tensor, parts: int = 5) -> float:
    """Return the standard error of ``likeness``, from parts of the memory's rows alone; 0 of fewer rows than parts."""
    if len(memory) < parts:
        return 0.0
    found = torch.tensor([likeness(memory[number::parts], overlap) for number in range(parts)])
    return float(found.std() / math.sqrt(parts))


def spread_rows(rows: Tensor, count: int) -> Tensor:
    """Return at most ``count`` of (N, D) rows, evenly spread over them."""
    return rows[torch.from_numpy(spread(len(rows), count)).to(rows.device)]
