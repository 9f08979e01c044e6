"""How near the memories lie to the overlap, and which of its rows stand for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cmcr.connect.config import ConnectConfig
from cmcr.memory.overlap import Side
from cmcr.modality import Modality
from cmcr.numbers.routing import BLOCK, spread_rows
from cmcr.numbers.rows import spread

if TYPE_CHECKING:
    from cmcr.connect.validation import Validation

ANCHORS = 65_536
"""Overlap rows that memories are routed through, spread evenly: more add time, not knowledge."""
NEGLIGIBLE = 0.02
"""Weight below which recalled pairs are left out of the batches: they would only cost time."""
CROWD = 4096
"""Rows of a memory that stand for all of them."""
SAMPLE = 512
"""Rows of a memory and of the overlap that ``trust`` compares; always so many, for the nearest of more is nearer."""
QUERIES = 1024
KIND = 0.92
"""Likeness of a memory to the overlap up to which it is of another kind."""


def anchors_of(config: ConnectConfig, overlap: int) -> int:
    """Return through how many of the nearest overlap rows a vector is routed: all, or at most a tenth of them."""
    return min(config.route_top_k, max(1, overlap // 10)) if config.route_top_k else overlap


def overlap_anchors(validation: Validation) -> tuple[Tensor, Tensor]:
    """Return at most ``ANCHORS`` overlap rows to learn from as both spaces see them, centred."""
    train, device = validation.train, validation.device
    rows = validation.pairs.take(train[:: max(1, -(-len(train) // ANCHORS))], device)
    a, b = (
        centred_rows(x, center[str(side.overlap)].to(device))
        for x, center, side in zip((rows.overlap_a, rows.overlap_b), validation.centers, validation.sides, strict=True)
    )
    return a, b


def trust(validation: Validation) -> tuple[float, float]:
    """Return how near the memories lie to the overlap, and what weight the pairs they recall deserve; both in [0, 1].

    Needs the overlap rows of the pairs only: where the weight is 0, nothing has to be recalled for training.
    """
    nearness = 1.0
    for own, side, center in zip(overlap_anchors(validation), validation.sides, validation.centers, strict=True):
        memory = memory_rows(side, spread(side.memory.rows(side.recalled), SAMPLE), center, validation.device)
        nearness *= float((spread_rows(own, SAMPLE) @ memory.T).amax(dim=1).mean().clamp(0, 1))
    near, far = nearness**3, (1 - nearness) ** 3
    weight = near / (near + far)
    return nearness, weight if weight >= NEGLIGIBLE else 0.0


def apart(likenesses: tuple[float, float]) -> float:
    """Return how much two memories are of another kind than the overlap, in [0, 1]; half, if one is and one is not."""
    return sum(min(1.0, (1 - like) / (1 - KIND)) for like in likenesses) / 2


def told(likenesses: tuple[float, float], errors: tuple[float, float]) -> str:
    """Return in words how much two memories are like the overlap, with standard errors, and what follows from it."""
    both = " and ".join(f"{like:.2f} ± {error:.2f}" for like, error in zip(likenesses, errors, strict=True))
    return f"likeness of the memories to the overlap {both}: weights {apart(likenesses):.2f} as of another kind"


def memory_rows(side: Side, rows: np.ndarray, center: dict[str, Tensor], device: str) -> Tensor:
    """Return rows of a side's outer modality, centred by its mean."""
    vectors = torch.from_numpy(side.memory.vectors(side.recalled, rows)).to(device)
    return centred_rows(vectors, center[str(side.recalled)].to(device))


def crowd_of(side: Side, name: str, center: dict[str, Tensor], device: str) -> Tensor:
    """Return at most ``CROWD`` rows of one modality of a side, centred by its mean; of the shared one, overlap rows."""
    held = name == side.overlap
    some = spread(len(side.rows) if held else side.memory.rows(Modality(name)), CROWD)
    vectors = torch.from_numpy(side.memory.vectors(Modality(name), side.rows[some] if held else some))
    return centred_rows(vectors.to(device), center[name].to(device))


def mean_made(body: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return the (K,) mean of what a body makes of (N, D) rows, a block of them at a time."""
    return torch.stack([body(block).sum(dim=0) for block in x.split(BLOCK)]).sum(dim=0) / len(x)


def centred_rows(x: Tensor, center: Tensor) -> Tensor:
    """Return (N, D) rows less the (D,) mean, normalised."""
    return F.normalize(x - center, dim=1)
