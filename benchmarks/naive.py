"""The plain counterparts of the fast paths: what one would write first, with the same answers."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cmcr import ConnectConfig
from cmcr.connect.pairs import PairBatch
from cmcr.space import Projector


def recall(queries: Tensor, memory: Tensor, tau: float) -> Tensor:
    """Return what a memory recalls, with all similarities held at once."""
    return (queries @ memory.T / tau).softmax(dim=1) @ memory


def recall_top_k(queries: Tensor, memory: Tensor, tau: float, k: int) -> Tensor:
    """Return what the ``k`` nearest rows recall, with all similarities held at once."""
    scores, rows = (queries @ memory.T).topk(k)
    return torch.einsum("qk,qkd->qd", (scores / tau).softmax(dim=1), memory[rows])


def info_nce(x: Tensor, y: Tensor, tau: float) -> Tensor:
    """Return the symmetric InfoNCE, with all similarities held at once."""
    logits, target = x @ y.T / tau, torch.arange(len(x), device=x.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def project(projector: Projector, overlap: Tensor, pseudo: Tensor) -> tuple[Tensor, Tensor]:
    """Project overlap and pseudo rows in one pass of the layers, one layer after the other."""
    projected = F.normalize(projector.body(torch.cat([overlap, pseudo])), dim=1)
    return projected[: len(overlap)], projected[len(overlap) :]


def batch_loss(
    projectors: tuple[Projector, Projector], rows: PairBatch, config: ConnectConfig, noise: torch.Generator
) -> Tensor:
    """Return the C-MCR loss of a batch: completion, projection, inter and intra loss."""

    def complete(x: Tensor | None) -> Tensor:
        assert x is not None
        return F.normalize(x + torch.randn(x.shape, generator=noise, device=noise.device) * config.noise**0.5, dim=1)

    texts_a, images = project(projectors[0], complete(rows.overlap_a), complete(rows.pseudo_a))
    texts_b, sounds = project(projectors[1], complete(rows.overlap_b), complete(rows.pseudo_b))
    inter = info_nce(texts_a, texts_b, config.tau) + info_nce(images, sounds, config.tau)
    intra = ((texts_a - images).norm(dim=1).mean() + (texts_b - sounds).norm(dim=1).mean()) / 2
    return inter + config.intra_weight * intra
