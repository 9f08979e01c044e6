"""The method ``one-sided``: the ensemble's idea for a base that stays as it is.

Only what lands in the base's own space can be added up there: routes into it, and a student that learns what routing
knows of both memories while the base's vectors stand still. The base keeps its raw vectors, with the gap between its
modalities: a row of the leaf that lay along the gap would be near to all pictures and far from all texts, more than
another row is. So the leaf's map leaves out the directions of the base's means. What it makes then compares with raw
vectors as with centred ones, in both directions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cmcr.connect.methods.distill import Distill, DistillSettings
from cmcr.settings import setting

if TYPE_CHECKING:
    from cmcr.connect.methods.base import Objective
    from cmcr.connect.validation import Validation
    from cmcr.hooks import Progress


@dataclass(frozen=True)
class OneSidedSettings(DistillSettings):
    """Settings of the student, and those of the route beside it."""

    hidden: int = setting(1024, "Hidden width of the projectors; 0: twice the components they make.", most=1 << 18)
    likelihood_tau: float = setting(0.1, "Temperature at which overlap rows describe a row.", positive=True)
    anchors: int = setting(16_384, "Overlap rows that the space keeps, evenly spread.", positive=True, most=1 << 20)


class OneSided(Distill):
    """a route and a student of both memories, averaged into a base that stays as it is."""

    Settings = OneSidedSettings
    one_sided = keeps_base = True

    def recalls(self, validation: Validation) -> bool:
        """Tell whether recalled pairs have a weight."""
        return super().recalls(centred(validation))

    def objective(self, validation: Validation, folder: Path, progress: Progress) -> Objective:
        """Return the student's teacher, which adds the route at the end."""
        from cmcr.connect.methods.anchored import Anchored

        return Anchored(centred(validation), folder / "pairs", progress)


def centred(validation: Validation) -> Validation:
    """Return the validation with the means of the base too, which is centred to learn from and stays in the space."""
    own = validation.of(validation.config)
    own.sides = [replace(side, frozen=False) for side in own.sides]
    vars(own).pop("centers", None)
    return own
