"""A model's own picture transform, cut in two: what is done to a picture, and what to a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def split_transform(transform: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Return what a transform does to one picture, as (H, W, 3) bytes, and to a batch of these.

    What works on tensors is left to the batch, and gives the same bits there: in each of many decoding threads it would
    take the interpreter from all others. A transform that does not end with ``ToTensor`` and ``Normalize`` stays whole.
    """
    import torch
    from torchvision.transforms import Compose, Normalize, ToTensor

    steps = list(getattr(transform, "transforms", ()))
    if len(steps) < 2 or not (isinstance(steps[-2], ToTensor) and isinstance(steps[-1], Normalize)):
        return transform, lambda batch: batch
    cut, normalize = Compose(steps[:-2]), steps[-1]
    return lambda picture: torch.from_numpy(np.array(cut(picture))), lambda batch: normalize(
        batch.permute(0, 3, 1, 2).contiguous().float().div(255)
    )
