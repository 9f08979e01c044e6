"""The method ``tcl``: triple contrastive learning of known pairs, cross-modal and within each modality."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cmcr.connect.methods import base
from cmcr.connect.settings import Steps
from cmcr.settings import setting

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from cmcr.connect.config import ConnectConfig
    from cmcr.connect.fitted import Fitted
    from cmcr.connect.methods.base import Maps
    from cmcr.connect.validation import Validation
    from cmcr.hooks import Log, Progress


@dataclass(frozen=True)
class TclSettings(Steps):
    """Settings of the two contrasts, and of the moving average that both are held against."""

    bank: int = setting(1024, "Unpaired rows of either side that are negatives at every step.", most=1 << 16)
    tau_tcl: float = setting(0.07, "Temperature of both contrasts.", positive=True)
    soft: float = setting(0.4, "Share of the moving average's own answer in the target of a pair (alpha).", below=1)
    momentum: float = setting(0.995, "How much of the moving average a step keeps.", below=1)
    intra_tcl: float = setting(1.0, "Weight of the contrast of two views of a row.")
    noise: float = setting(0.004, "Variance per component of the Gaussian noise that makes a view.")


class Tcl(base.Method):
    """projectors of known pairs, by a contrast across modalities with soft targets and one between views of a row."""

    Settings = TclSettings
    uses_pairs = True

    def fit(self, validation: Validation, folder: Path, progress: Progress, log: Log) -> Fitted:
        """Return the trained projectors, measured."""
        import torch

        from cmcr.connect.fitted import measured
        from cmcr.connect.methods import few
        from cmcr.connect.train import new_projectors
        from cmcr.numbers.rows import spread
        from cmcr.space import with_centers

        config = validation.config
        pairs = few.paired_rows(validation)
        maps = new_projectors(config, pairs[0].shape[1], pairs[1].shape[1])
        for each in maps:
            each.to(validation.device)
        average = copy.deepcopy(maps)
        banks = [rows[spread(len(rows), config.bank)] for rows in few.unpaired_rows(validation)]

        def loss(generator: np.random.Generator) -> Tensor:
            chosen = few.draw(pairs[0], config.pair_batch, generator)
            noise = torch.Generator().manual_seed(int(generator.integers(1 << 62)))
            return contrasts(maps, average, [rows[chosen] for rows in pairs], banks, config, noise)

        def follow() -> None:
            with torch.no_grad():
                for mine, theirs in zip(average, maps, strict=True):
                    for kept, new in zip(mine.parameters(), theirs.parameters(), strict=True):
                        kept.lerp_(new, 1 - config.momentum)

        losses = few.train_steps(maps, validation, loss, progress, follow)
        own = tuple(with_centers(each, center).eval() for each, center in zip(maps, validation.centers, strict=True))
        told = {"pairs": len(pairs[0]), "bank": [len(rows) for rows in banks], "loss": losses[-1]}
        made = measured(validation, (own[0], own[1]), told, log)
        return replace(
            made, notes=(*made.notes, *few.fewer_than_components(len(pairs[0]), [x.shape[1] for x in pairs]))
        )


def contrasts(
    maps: Maps, average: Maps, pairs: list[Tensor], banks: list[Tensor], config: ConnectConfig, noise: torch.Generator
) -> Tensor:
    """Return the mean of both directions' cross-modal contrast, plus the weighted mean of both sides' own.

    The keys of a row are its partner (or its other view) and, as negatives, the batch's other rows and the whole bank,
    all as the moving average projects them at this step: what TCL (Yang et al., CVPR 2022) keeps in queues is stale,
    and a frozen encoder's rows need not be.

    Args:
        maps: The projectors that are trained.
        average: Their moving averages.
        pairs: (B, D_a) and (B, D_b) paired rows.
        banks: Unpaired rows of each side; maybe none.
        config: The recipe.
        noise: Generator of the views' noise.
    """
    import torch
    from torch.nn.functional import cross_entropy

    from cmcr.numbers.recall import complete

    views = [[complete(rows, config.noise, noise) for rows in pairs] for _ in range(2)]
    made = [f(x) for f, x in zip(maps, views[0], strict=True)]
    with torch.no_grad():
        keys = [f(torch.cat([x, bank])) for f, x, bank in zip(average, views[1], banks, strict=True)]
        own = [f(x) for f, x in zip(average, views[0], strict=True)]
    right = torch.arange(len(pairs[0]), device=pairs[0].device)
    total: Tensor = made[0].new_zeros(())
    for side in (0, 1):
        across, within = keys[1 - side], keys[side]
        hard = torch.nn.functional.one_hot(right, len(across)).to(across)
        answer = (own[side] @ across.T / config.tau_tcl).softmax(dim=1)
        target = torch.lerp(hard, answer, config.soft)
        total = total + cross_entropy(made[side] @ across.T / config.tau_tcl, target) / 2
        if config.intra_tcl:
            views_apart = cross_entropy(made[side] @ within.T / config.tau_tcl, right) / 2
            total = total + config.intra_tcl * views_apart
    return total
