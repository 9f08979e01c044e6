"""Canonical similarity analysis: what two spaces agree on over known pairs; trains nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cmcr.connect.methods import base
from cmcr.settings import setting

if TYPE_CHECKING:
    from torch import Tensor

    from cmcr.connect.fitted import Fitted
    from cmcr.connect.validation import Validation
    from cmcr.hooks import Log, Progress
    from cmcr.numbers.canonical import Canonical
    from cmcr.space import Projector


@dataclass(frozen=True)
class CsaSettings:
    """The setting of canonical similarity analysis."""

    canonical_ridge: float = setting(
        0.0, "Ridge of either side, relative to its mean eigenvalue; 0: the one under which held-out pairs rank best."
    )


class Csa(base.Method):
    """canonical directions of pairs (known ones, or the overlap), weighed by their correlation; trains nothing."""

    Settings = CsaSettings
    uses_pairs = True

    def fit(self, validation: Validation, folder: Path, progress: Progress, log: Log) -> Fitted:
        """Return both sides' maps onto the canonical directions."""
        from cmcr.connect.fitted import measured
        from cmcr.numbers import canonical

        x, y = paired_rows(validation)
        folds = canonical.folds_of(len(x), validation.config.seed)
        ridge = validation.config.canonical_ridge or canonical.pick_ridge(x, y, folds)
        maps = canonical_maps(canonical.fit_canonical(x, y, ridge), validation.centers)
        return measured(validation, maps, {"ridge": ridge, "pairs": len(x)}, log)


def paired_rows(validation: Validation) -> tuple[Tensor, Tensor]:
    """Return the (P, D_a) and (P, D_b) rows that belong together, centred: the known pairs', else the overlap's."""
    import torch

    from cmcr.connect.nearness import centred_rows, overlap_anchors

    given = validation.given
    if given is None:
        return overlap_anchors(validation)
    parts = zip(validation.sides, (given.rows_a, given.rows_b), (given.modality_a, given.modality_b), strict=True)
    rows = [
        centred_rows(torch.from_numpy(side.memory.vectors(modality, chosen)), center[str(modality)].cpu())
        for (side, chosen, modality), center in zip(parts, validation.centers, strict=True)
    ]
    return rows[0], rows[1]


def canonical_maps(found: Canonical, centers: list[dict[str, Tensor]]) -> tuple[Projector, Projector]:
    """Return the projectors of canonical maps, each after the centring of its modality."""
    from cmcr.space import bridges

    return (
        bridges.linear_bridge(found.weight_x, found.bias_x, centers[0]),
        bridges.linear_bridge(found.weight_y, found.bias_y, centers[1]),
    )
