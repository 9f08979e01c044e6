"""What known pairs add to ``ensemble``: canonical directions beside its views, as much as held-out pairs say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from cmcr.connect.methods.csa import canonical_maps, paired_rows
from cmcr.connect.methods.views import Views
from cmcr.hooks import Progress
from cmcr.numbers import canonical
from cmcr.space import Projector, bridges

if TYPE_CHECKING:
    from cmcr.connect.methods.base import Maps
    from cmcr.connect.validation import Figures, Validation

SHARES = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
"""How much canonical cosines may count beside the ensemble's, both over their standard deviation."""


class PairedViews(Views):
    """The views of an ensemble, and one more segment: canonical directions of the pairs that are known.

    The weight is chosen by pairs that the directions did not see. The other views rest on no pair, so of the known
    ones all may judge them.

    Attributes:
        share: What was chosen of ``SHARES``; known at the end.
    """

    share = 0.0

    def __init__(self, validation: Validation, folder: Path, progress: Progress) -> None:
        super().__init__(validation, folder, progress)
        self.validation = validation

    @torch.no_grad()
    def finish(self, maps: Maps) -> Maps:
        """Return the ensemble with the canonical directions beside it."""
        ensemble = super().finish(maps)
        x, y = paired_rows(self.validation)
        folds = canonical.folds_of(len(x), self.config.seed)
        ridge = canonical.pick_ridge(x, y, folds)
        held = list(canonical.held_out(x, y, ridge, folds))
        spread = [float(cosines[~torch.eye(len(cosines), dtype=torch.bool)].std()) for _, cosines in held]
        others = self._similarities(ensemble, folds)
        unit = sum(spread) / len(spread) / max(float(others.std()), 1e-6)
        self.share = canonical.pick_weight(held, others, unit, SHARES)
        if not self.share:
            return ensemble
        found = canonical_maps(canonical.fit_canonical(x, y, ridge), [{}, {}])
        first, second = (bridges.beside(own, new, self.share / unit) for own, new in zip(ensemble, found, strict=True))
        return first, second

    def _similarities(self, ensemble: tuple[Projector, Projector], folds: canonical.Folds) -> torch.Tensor:
        """Return the (P, P) cosines that the ensemble gives the folds' rows."""
        given = self.validation.given
        assert given is not None  # noqa: S101  (these views are taken for known pairs)
        chosen = np.concatenate(folds)
        a, b = (
            projector(torch.from_numpy(side.memory.vectors(modality, rows[chosen])), str(modality))
            for projector, side, modality, rows in zip(
                ensemble, self.sides, (given.modality_a, given.modality_b), (given.rows_a, given.rows_b), strict=True
            )
        )
        cosines: torch.Tensor = a @ b.T
        return cosines

    def figures(self) -> Figures:
        """Return how many pairs are known and how much they count, too."""
        given = self.validation.given
        return super().figures() | {"pairs": len(given.rows_a) if given else 0, "pairs_share": self.share}

    def notes(self) -> tuple[str, ...]:
        """Tell how much the pairs count."""
        told = f"{self.figures()['pairs']} known pairs count {self.share:g} to 1 beside the views that rest on none"
        return (*super().notes(), f"{told} (chosen by {canonical.FOLDS} folds of them)")
