"""How near the memories lie to the overlap, and which of its rows stand for them."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cmcr.connect.config import ConnectConfig
from cmcr.connect.pairs import Pairs
from cmcr.memory.overlap import Side
from cmcr.modality import Modality
from cmcr.numbers.rows import spread

ANCHORS = 65_536
"""Overlap rows that memories are routed through, spread evenly: more add time, not knowledge."""
NEGLIGIBLE = 0.02
"""Weight below which recalled pairs are left out of the batches: they would only cost time."""
CROWD, CLOSEST = 4096, 10
"""An overlap row is as near to a memory as its mean cosine with the 10 nearest of so many of its rows."""
SAMPLE = 512
"""Rows of a memory and of the overlap that ``trust`` compares; always so many, for the nearest of more is nearer."""
LEAST = 1e-4
"""Variances below this share of the largest count as this."""
QUERIES = 1024


def anchors_of(config: ConnectConfig, overlap: int) -> int:
    """Return through how many of the nearest overlap rows a vector is routed: at most a tenth of them."""
    return min(config.route_top_k or overlap, max(1, overlap // 10))


def _density(overlap: Tensor, memory: Tensor) -> Tensor:
    """Return of each overlap row how much nearer to the memory it lies than the mean overlap row."""
    near = [(x @ memory.T).topk(min(CLOSEST, len(memory)), dim=1).values.mean(dim=1) for x in overlap.split(QUERIES)]
    density = torch.cat(near)
    return density - density.mean()


def _anchors(
    pairs: Pairs, train: np.ndarray, sides: tuple[Side, Side], centers: list[dict[str, Tensor]], device: str
) -> tuple[Tensor, Tensor]:
    """Return at most ``ANCHORS`` overlap rows to learn from as both spaces see them, centred."""
    rows = pairs.take(train[:: max(1, -(-len(train) // ANCHORS))], device)
    a, b = (
        _centred(x, center[str(side.overlap)].to(device))
        for x, center, side in zip((rows.overlap_a, rows.overlap_b), centers, sides, strict=True)
    )
    return a, b


def trust(
    pairs: Pairs, train: np.ndarray, sides: tuple[Side, Side], centers: list[dict[str, Tensor]], device: str = "cpu"
) -> tuple[float, float]:
    """Return how near the memories lie to the overlap, and what weight the pairs they recall deserve; both in [0, 1].

    ``train`` are the (T,) row numbers to train on, ``centers`` the (D,) means by modality of each side.
    Needs the overlap rows of ``pairs`` only: where the weight is 0, nothing has to be recalled for training.
    """
    nearness = 1.0
    for own, side, center in zip(_anchors(pairs, train, sides, centers, device), sides, centers, strict=True):
        memory = _memory_rows(side, spread(side.memory.rows(_outer(side)), SAMPLE), center, device)
        some = own[torch.from_numpy(spread(len(own), SAMPLE)).to(own.device)]
        nearness *= float((some @ memory.T).amax(dim=1).mean().clamp(0, 1))
    near, far = nearness**3, (1 - nearness) ** 3
    weight = near / (near + far)
    return nearness, weight if weight >= NEGLIGIBLE else 0.0


def _outer(side: Side) -> Modality:
    assert side.outer is not None  # noqa: S101
    return side.outer


def _memory_rows(side: Side, rows: np.ndarray, center: dict[str, Tensor], device: str) -> Tensor:
    vectors = torch.from_numpy(side.memory.vectors(_outer(side), rows)).to(device)
    return _centred(vectors, center[str(_outer(side))].to(device))


def _centred(x: Tensor, center: Tensor) -> Tensor:
    return F.normalize(x - center, dim=1)
