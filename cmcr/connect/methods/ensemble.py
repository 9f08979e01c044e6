"""The method ``ensemble``: what four views of two memories say of their similarity, added up in one space.

No view is best everywhere: what is learned wins where the memories are coarse, routing wins where detail counts, and
the likelihood of a common description wins where the overlap says nearly all. A sum of cosines is a cosine of vectors
put side by side, so their sum is a space like any other.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cmcr.connect.methods.distill import Distill, DistillSettings
from cmcr.settings import setting

if TYPE_CHECKING:
    from cmcr.connect.methods.base import Objective
    from cmcr.connect.validation import Validation
    from cmcr.hooks import Progress


@dataclass(frozen=True)
class EnsembleSettings(DistillSettings):
    """Settings of the ensemble: the student's, and those of what needs no training."""

    likelihood_tau: float = setting(0.1, "Temperature at which overlap rows describe a row.", positive=True)
    directions: int = setting(512, "Components that the likelihood of a common description is cut to.", positive=True)
    anchors: int = setting(16_384, "Overlap rows that the space keeps, evenly spread.", positive=True, most=1 << 20)


class Ensemble(Distill):
    """routing, likely descriptions and a student of them, side by side: the one to use on real vectors."""

    Settings = EnsembleSettings
    uses_pairs = True

    def objective(self, validation: Validation, folder: Path, progress: Progress) -> Objective:
        """Return the student's teacher, which adds the other views at the end, and what known pairs tell."""
        from cmcr.connect.methods.paired import PairedViews
        from cmcr.connect.methods.views import Views

        return (PairedViews if validation.given else Views)(validation, folder / "pairs", progress)
