"""The method ``ridge``: regression from the second space to the first on known pairs; trains nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cmcr.connect.methods import base
from cmcr.settings import setting

if TYPE_CHECKING:
    from torch import Tensor

    from cmcr.connect.fitted import Fitted
    from cmcr.connect.validation import Validation
    from cmcr.hooks import Log, Progress


@dataclass(frozen=True)
class RidgeSettings:
    """The setting of the regression."""

    pairs_ridge: float = setting(
        0.0,
        "Ridge relative to the mean eigenvalue of the second side; 0: the one under which held-out pairs rank best.",
    )


class Ridge(base.Method):
    """a ridge regression of known pairs (or the overlap) into the first encoder's space; trains nothing."""

    Settings = RidgeSettings
    uses_pairs = True

    def fit(self, validation: Validation, folder: Path, progress: Progress, log: Log) -> Fitted:
        """Return the identity and the regression."""
        from cmcr.connect.fitted import measured
        from cmcr.connect.methods.few import fewer_than_components, paired_rows
        from cmcr.numbers.ridge import fit_ridge
        from cmcr.space import bridges

        x, y = (rows.cpu() for rows in paired_rows(validation))
        ridge = validation.config.pairs_ridge or pick_by_rank(y, x, validation.config.seed)
        maps = (
            bridges.identity(x.shape[1], validation.centers[0]),
            bridges.linear_bridge(*fit_ridge(y, x, ridge), validation.centers[1]),
        )
        made = measured(validation, maps, {"pairs": len(x), "ridge": ridge}, log)
        return replace(made, notes=(*made.notes, *fewer_than_components(len(x), [x.shape[1], y.shape[1]])))


def pick_by_rank(x: Tensor, y: Tensor, seed: int) -> float:
    """Return the ridge under which held-out partners rank best, over folds; see ``cmcr.numbers.canonical.chosen``.

    Args:
        x: (P, D_x) rows that are mapped.
        y: (P, D_y) unit rows that they are mapped to.
        seed: Of the folds.
    """
    import torch
    from torch.nn.functional import normalize

    from cmcr.numbers import canonical
    from cmcr.numbers.ridge import RIDGE, RIDGES, fit_ridge

    logs: dict[float, list[Tensor]] = {ridge: [] for ridge in RIDGES}
    for known, fold in canonical.parts(canonical.folds_of(len(x), seed)):
        for ridge, found in logs.items():
            weight, bias = fit_ridge(x[known], y[known], ridge)
            made = normalize(x[fold] @ weight.T + bias, dim=1)
            found.append(canonical.log_ranks(y[fold] @ made.T))
    return canonical.chosen({ridge: torch.cat(found) for ridge, found in logs.items()}, RIDGE)
