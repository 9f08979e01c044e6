"""What methods of known pairs share: which rows are paired and which are not, and a short training without epochs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from cmcr.connect.nearness import centred_rows, overlap_anchors
from cmcr.numbers.rows import spread

if TYPE_CHECKING:
    from cmcr.connect.methods.base import Maps
    from cmcr.connect.validation import Validation
    from cmcr.hooks import Progress

UNPAIRED = 4096
"""Rows of a memory that no pair names and that are learned from, at most, evenly spread."""


def paired_rows(validation: Validation) -> tuple[Tensor, Tensor]:
    """Return the (P, D_a) and (P, D_b) rows that belong together, centred: the known pairs', else the overlap's."""
    given = validation.given
    if given is None:
        return overlap_anchors(validation)
    parts = zip(validation.sides, (given.rows_a, given.rows_b), (given.modality_a, given.modality_b), strict=True)
    rows = [
        _centred(side.memory.vectors(modality, chosen), center.get(str(modality)), validation.device)
        for (side, chosen, modality), center in zip(parts, validation.centers, strict=True)
    ]
    return rows[0], rows[1]


def unpaired_rows(validation: Validation) -> tuple[Tensor, Tensor]:
    """Return (N_a, D_a) and (N_b, D_b) rows of the paired modalities that no pair names, centred; maybe none."""
    given = validation.given
    names = (given.modality_a, given.modality_b) if given else tuple(side.overlap for side in validation.sides)
    paired = (given.rows_a, given.rows_b) if given else tuple(side.rows for side in validation.sides)
    found = []
    for side, modality, known, center in zip(validation.sides, names, paired, validation.centers, strict=True):
        others = np.setdiff1d(np.arange(side.memory.rows(modality)), known)
        chosen = others[spread(len(others), UNPAIRED)]
        found.append(_centred(side.memory.vectors(modality, chosen), center.get(str(modality)), validation.device))
    return found[0], found[1]


def fewer_than_components(pairs: int, dims: Sequence[int]) -> tuple[str, ...]:
    """Return a note where pairs are fewer than the components they are to relate, else nothing."""
    if pairs >= min(dims):
        return ()
    return (
        f"{pairs} known pairs are fewer than the {' and '.join(map(str, dims))} components of the two encoders: what "
        "they leave open, a penalty or the unpaired rows decide; more pairs say more",
    )


def train_steps(
    maps: Maps, validation: Validation, loss: Callable[[np.random.Generator], Tensor], progress: Progress,
    after: Callable[[], None] = lambda: None,
) -> list[float]:  # fmt: skip
    """Train maps in place by the steps of a recipe, return the losses; the maps end on the processor, in eval mode.

    Args:
        maps: Of the two sides, on the device.
        validation: Whose recipe it is.
        loss: Returns the loss of a step, drawn from the generator it is given (of seed and step).
        progress: Called after each step.
        after: Called after each step, too.
    """
    config, model = validation.config, torch.nn.ModuleList(maps).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    plan = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    losses = []
    for step in range(config.steps):
        optimizer.zero_grad()
        value = loss(np.random.default_rng([config.seed, 1 << 22, step]))
        value.backward()
        optimizer.step()
        plan.step()
        after()
        losses.append(value.item())
        progress(step + 1, config.steps, f"loss {losses[-1]:.3f}")
    model.eval().cpu()
    return losses


def draw(rows: Tensor, count: int, generator: np.random.Generator) -> Tensor:
    """Return ``count`` of the row numbers of ``rows``, or all of them where there are no more."""
    return torch.from_numpy(np.sort(generator.permutation(len(rows))[:count])).to(rows.device)


def _centred(vectors: np.ndarray, center: Tensor | None, device: str) -> Tensor:
    rows = torch.from_numpy(np.asarray(vectors)).to(device)
    return rows if center is None else centred_rows(rows, center.to(device))
